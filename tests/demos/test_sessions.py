"""Every session runs, and leaves its pictures."""

import re
import runpy
from pathlib import Path

import course
import pytest

DEMOS = Path(course.__file__).parent
SESSIONS = [DEMOS / path.name for path in sorted((DEMOS / "exercises").glob("[0-9]*.py"))]
TRAINED = {
    "06_mlp_beside_exact",
    "07_samplers",
    "09_unet_digits",
    "10_bits_and_memorisation",
}


@pytest.mark.parametrize("path", SESSIONS, ids=lambda path: path.stem)
def test_a_session_runs_and_leaves_its_picture(path, tmp_path, monkeypatch, request, capsys):
    if path.stem in TRAINED and request.config.getoption("--hypothesis-profile") not in ("ci", "thorough"):
        pytest.skip("trains for up to 90 s: in the profiles ci and thorough only")
    monkeypatch.setattr(course, "PICTURES", tmp_path)
    runpy.run_path(str(path), run_name="__main__")
    assert (tmp_path / f"{path.stem}.png").stat().st_size > 10_000
    assert capsys.readouterr().out.count("wrote ") == len(list(tmp_path.glob("*.png")))


@pytest.mark.parametrize("path", SESSIONS, ids=lambda path: path.stem)
def test_a_session_has_a_headline_cells_and_exercises(path):
    text = path.read_text(encoding="utf-8")
    number = int(path.stem[:2])
    assert text.startswith(f"# %% [markdown]\n# # Session {number} · ")
    cells = text.split("# %%")[1:]
    for cell in cells:
        prose = cell.startswith(" [markdown]\n")
        assert prose or cell.startswith("\n"), f"a cell begins with {cell[:30]!r}"
        if prose:
            lines = cell.splitlines()[1:]
            assert all(line.startswith("#") or not line for line in lines), "a cell of prose holds code"
    assert "# ## Exercises\n" in cells[-1]
    assert f"python demos/check.py demos/exercises/{path.name}" in cells[-1]


@pytest.mark.parametrize("path", SESSIONS, ids=lambda path: path.stem)
def test_the_ids_of_its_equations_exist(path):
    equations = (DEMOS.parent / "EQUATIONS.md").read_text(encoding="utf-8")
    known = set(re.findall(r"^### ([A-Z]\d+) · ", equations, flags=re.MULTILINE))
    used = set(re.findall(r"\b[FRVSO]\d{1,2}\b", path.read_text(encoding="utf-8")))
    assert used <= known, f"EQUATIONS.md has no {used - known}"
