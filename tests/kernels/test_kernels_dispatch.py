"""Which kernel is called: by dtype, by environment, by memory layout, by CPU."""

import inspect
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from examples import PUBLIC
from fresh import run

from minidiff import kernels
from minidiff.kernels import reference

SAME = ((1, 1), (1, 1))


def draw(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_kernel_has_the_signature_and_docstring_of_its_reference(name):
    ours, specification = getattr(kernels, name), getattr(reference, name)
    assert (
        inspect.signature(ours) == inspect.signature(specification) and ours.__doc__ == specification.__doc__
    )


def test_float64_takes_the_reference():
    x, w, b = (a.astype(np.float64) for a in (draw(0, 1, 5, 5, 3), draw(1, 3, 3, 3, 4), draw(2, 4)))
    np.testing.assert_array_equal(kernels.conv2d(x, w, b, 1, SAME), reference.conv2d(x, w, b, 1, SAME))


def test_the_environment_can_choose_the_reference():
    code = "import numpy as np; from minidiff import kernels; from minidiff.kernels import pointwise; "
    code += "assert kernels.silu(np.ones(3, np.float32)).dtype == np.float32; "
    code += "print(len(pointwise._silu.signatures))"
    assert run(code, MINIDIFF_KERNELS="reference").stdout.strip() == "0"
    assert run(code, MINIDIFF_KERNELS="numba").stdout.strip() == "1"
    refused = run(code, MINIDIFF_KERNELS="fast").stderr.strip().splitlines()[-1]
    assert refused == "ValueError: MINIDIFF_KERNELS must be 'numba' or 'reference', not 'fast'"


PRODUCT = """
import numpy as np
from minidiff import kernels
from minidiff.kernels import microkernel, reference
rng = np.random.default_rng(0)
x, w, b = (rng.standard_normal(s, dtype=np.float32) for s in ((9, 40), (40, 35), (35,)))
assert np.abs(kernels.linear(x, w, b) - reference.linear(x, w, b)).max() < 1e-5
print(microkernel.MR, microkernel.NR)
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="names of x86 CPUs")
@pytest.mark.parametrize(
    "cpu, features, shape",
    [("haswell", None, "4 16"), ("generic", "", "4 8")],
)
def test_a_cpu_named_by_hand_gets_its_register_tile_and_correct_results(cpu, features, shape):
    settings = {"NUMBA_CPU_NAME": cpu} | ({} if features is None else {"NUMBA_CPU_FEATURES": features})
    done = run(PRODUCT, **settings)
    assert done.stdout.strip() == shape, done.stderr


CACHED = """
import hashlib
from examples import example
from minidiff import kernels
for array in kernels.group_norm_backward(**example("group_norm_backward", 40)):
    print(hashlib.md5(array.tobytes()).hexdigest())
"""


def test_a_kernel_just_compiled_gives_the_bits_of_a_cached_one(tmp_path):
    """The gradient of group norm once did not: its helper is so large that LLVM did not inline it."""
    there = {"PYTHONPATH": os.pathsep.join(sys.path), "NUMBA_CACHE_DIR": str(tmp_path)}
    compiled, cached = run(CACHED, **there), run(CACHED, **there)
    assert list(tmp_path.rglob("*_backward*.nbi"))
    assert compiled.stdout == cached.stdout and len(cached.stdout.split()) == 3, cached.stderr


def test_a_change_in_the_file_of_a_helper_invalidates_cached_kernels(tmp_path):
    package = tmp_path / "minidiff"
    shutil.copytree(
        Path(kernels.__file__).parent, package / "kernels", ignore=shutil.ignore_patterns("__pycache__")
    )
    (package / "__init__.py").touch()
    code = (
        "import numpy as np; from minidiff import kernels; print(kernels.silu(np.ones(1, np.float32))[0] < 0)"
    )
    there = {"PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "cwd": tmp_path}
    assert run(code, **there).stdout.strip() == "False"
    helper = package / "kernels" / "math32.py"
    helper.write_text(helper.read_text() + "\n\n@device_in_order\ndef sigmoid(x):\n    return -x\n")
    assert run(code, **there).stdout.strip() == "True"
