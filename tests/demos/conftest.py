"""The sessions import what lies beside them."""

import sys
from pathlib import Path

DEMOS = Path(__file__).parents[2] / "demos"
sys.path.insert(0, str(DEMOS))
