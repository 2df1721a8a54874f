"""The page to play with shows what the package computes, and works in a browser."""

import json
import re
import runpy
from itertools import product
from pathlib import Path

import pytest
from browser import CHROMIUM, SIZES, inspected

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "course" / "interactive.html").read_text(encoding="utf-8")
FIGURES = json.loads(re.search(r'id="figures">(.*?)</script>', PAGE)[1])
# Each choice of each control: how many there are, and whether it changes what is shown without emptying it.
CONTROLS = """
  const pictures = () => [...page.querySelectorAll("svg")].map(svg => svg.outerHTML).join();
  const changes = (control, value) => {
    const before = pictures();
    control.value = value;
    control.dispatchEvent(new view.Event(control.type == "range" ? "input" : "change"));
    return pictures() != before;
  };
  const broken = () => /NaN|undefined|Infinity/.test(pictures());
  const names = [], dead = [];
  for (const control of page.querySelectorAll("input, select")) {
    const name = control.closest("label").textContent;
    names.push(control.disabled ? "disabled" : "enabled");
    const values = control.type == "range" ? [0, control.max] : [...control.options].map(option => option.value);
    if (!control.disabled && values.map(value => changes(control, value)).filter(Boolean).length < values.length - 1)
      dead.push(name);
  }
  return {controls: names.length, dead, broken: broken(), svg: page.querySelectorAll("svg").length};
"""


@pytest.fixture(scope="module")
def generator():
    return runpy.run_path(str(ROOT / "demos" / "interactive.py"))


def test_the_page_has_a_sampler_for_every_choice(generator):
    keys = {
        f"{name} {steps} {spacing}" + suffix
        for name, steps, spacing in product(generator["NAMES"], generator["STEPS"], generator["SPACINGS"])
        for suffix in ([f" {eta:g}" for eta in generator["ETAS"]] if name == "ddim" else [""])
    }
    assert FIGURES["samplers"].keys() == keys


def test_the_page_is_what_the_package_computes_now(generator):
    """To four digits: the bits of samples may differ between processors."""

    def close(a, b):
        return a == pytest.approx(b, rel=1e-3, abs=0.011)

    computed = json.loads(json.dumps(generator["forward"]()))
    assert computed.keys() == FIGURES["forward"].keys()
    for name, values in computed.items():
        for row, stored in zip(values, FIGURES["forward"][name], strict=True):
            for a, b in zip(*((x if isinstance(x, list) else [x]) for x in (row, stored)), strict=True):
                assert close(a, b), name
    for key, options in {"ddim 5 quadratic 0.5": {"eta": 0.5}, "unipc 3 logsnr": {}}.items():
        name, steps, spacing, *_ = key.split()
        made, stored = generator["sampled"](name, int(steps), spacing, **options), FIGURES["samplers"][key]
        assert made["distance"] == pytest.approx(stored["distance"], rel=1e-3)
        assert all(close(a, b) for a, b in zip(made["paths"], stored["paths"], strict=True))


def test_the_script_of_the_page_is_the_one_in_demos(generator):
    script = (ROOT / "demos" / "interactive.js").read_text(encoding="utf-8")
    assert script in PAGE and len(script.splitlines()) < 200
    for block in generator["blocks"](FIGURES):
        assert block in PAGE


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_in_a_browser_every_control_changes_the_picture(tmp_path, width, height):
    found = inspected(PAGE, CONTROLS, width, height, tmp_path)
    assert found == {"controls": 11, "dead": [], "broken": False, "svg": 4}
