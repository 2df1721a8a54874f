"""Hypothesis profiles, and the mark of what only the compiled kernels promise.

Profiles: `quick` (default), `ci` and `thorough`; choose with --hypothesis-profile=NAME. With MINIDIFF_KERNELS=reference
in the environment the suite runs on plain NumPy, whose sums have their order from BLAS and their width from float32:
a test of what that cannot give is marked `compiled`, and skipped there. `mutants` is `quick` without a search for the
simplest failure: whoever only asks whether a test fails need not wait.
"""

import os
import signal

import pytest
from hypothesis import HealthCheck, Phase, settings

for name, examples in (("quick", 25), ("ci", 100), ("thorough", 1000)):
    settings.register_profile(
        name,
        max_examples=examples,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
settings.register_profile(
    "mutants",
    settings.get_profile("quick"),
    phases=[Phase.explicit, Phase.generate],
    report_multiple_bugs=False,
)
settings.load_profile("quick")


def pytest_configure(config: pytest.Config) -> None:
    # Where a shell has started the tests in the background, they ignore it, and every run in them would.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "compiled: holds for the compiled kernels, not for their reference")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("MINIDIFF_KERNELS") != "reference":
        return
    for item in items:
        if item.get_closest_marker("compiled"):
            item.add_marker(pytest.mark.skip(reason="a promise of the compiled kernels alone"))
