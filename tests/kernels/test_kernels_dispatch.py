"""Which kernel answers: by dtype, by environment, by memory layout, by CPU."""

import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minidiff import kernels
from minidiff.kernels import reference

PUBLIC = [name for name, value in vars(reference).items() if inspect.isfunction(value) and name[0] != "_"]
SAME = ((1, 1), (1, 1))


def draw(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def run(code, cwd=None, **environment):
    """A fresh interpreter's output; errors come with it."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        cwd=cwd,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("name", PUBLIC)
def test_every_kernel_has_the_name_the_signature_and_the_words_of_its_twin(name):
    ours, twin = getattr(kernels, name), getattr(reference, name)
    assert inspect.signature(ours) == inspect.signature(twin) and ours.__doc__ == twin.__doc__


def test_float64_takes_the_reference():
    x, w, b = (a.astype(np.float64) for a in (draw(0, 1, 5, 5, 3), draw(1, 3, 3, 3, 4), draw(2, 4)))
    np.testing.assert_array_equal(kernels.conv2d(x, w, b, 1, SAME), reference.conv2d(x, w, b, 1, SAME))


def test_keywords_work():
    x, w, b = draw(0, 1, 5, 5, 3), draw(1, 3, 3, 3, 4), draw(2, 4)
    by_name = kernels.conv2d(x=x, w=w, b=b, stride=2, padding=SAME)
    np.testing.assert_array_equal(by_name, kernels.conv2d(x, w, b, 2, SAME))


def test_arrays_may_be_strided_reversed_broadcast_or_read_only():
    x, w, b = draw(0, 2, 3, 6, 7), draw(1, 4, 3, 3, 3), draw(2, 8)
    strange = x.transpose(0, 2, 3, 1)[:, ::-1], w.transpose(1, 2, 3, 0), np.broadcast_to(b[:1], 4)
    plain = [np.ascontiguousarray(a) for a in strange]
    np.testing.assert_array_equal(kernels.conv2d(*strange, 1, SAME), kernels.conv2d(*plain, 1, SAME))
    frozen = draw(3, 4, 5)
    frozen.flags.writeable = False
    np.testing.assert_array_equal(kernels.silu(frozen), kernels.silu(frozen.copy()))
    np.testing.assert_array_equal(kernels.sum_rows(frozen.T), kernels.sum_rows(frozen.T.copy()))


def test_what_is_changed_in_place_must_be_contiguous():
    vector, vectors, settings = draw(0, 10), draw(1, 3, 5), (1, 0.1, 0.9, 0.999, 1e-8, 1.0, 0.9)
    with pytest.raises(ValueError, match="contiguous vectors of one size"):
        kernels.adam(vector[::2], *vectors, None, *settings)
    with pytest.raises(ValueError, match="must be contiguous"):
        kernels.add_rows(draw(2, 5, 3).T, vectors, np.zeros(3, int))
    vectors.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        kernels.adam(*draw(3, 4, 5)[:2], *vectors[:2], None, *settings)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int64])
def test_mixed_and_foreign_dtypes_are_refused(dtype):
    with pytest.raises(TypeError, match="all float32 or all float64"):
        kernels.linear(draw(0, 2, 3), np.ones((3, 4), dtype), draw(1, 4))


def test_the_environment_can_ask_for_the_reference():
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
from minidiff.kernels import reference, tile
rng = np.random.default_rng(0)
x, w, b = (rng.standard_normal(s, dtype=np.float32) for s in ((9, 40), (40, 35), (35,)))
assert np.abs(kernels.linear(x, w, b) - reference.linear(x, w, b)).max() < 1e-5
print(tile.ROWS, tile.LANES)
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="names of x86 CPUs")
@pytest.mark.parametrize(
    "cpu, features, shape",
    [("haswell", None, "4 16"), ("generic", "", "4 8")],
)
def test_a_cpu_named_by_hand_gets_its_tile_and_right_results(cpu, features, shape):
    settings = {"NUMBA_CPU_NAME": cpu} | ({} if features is None else {"NUMBA_CPU_FEATURES": features})
    done = run(PRODUCT, **settings)
    assert done.stdout.strip() == shape, done.stderr


def test_kernels_work_where_nothing_can_be_kept():
    nowhere = {"NUMBA_CACHE_LOCATOR_CLASSES": "ZipCacheLocator"}  # finds no place for a plain file
    code = "import numpy as np; from minidiff import kernels; print(kernels.silu(np.zeros(3, np.float32)))"
    assert run(code, **nowhere).stdout.strip() == "[0. 0. 0.]"


CROWD = """
import threading
import numpy as np
from minidiff import kernels
x = np.ones((1000, 300), np.float32)
calls = [threading.Thread(target=lambda: [kernels.silu(x) for _ in range(200)]) for _ in range(2)]
[call.start() for call in calls]
[call.join() for call in calls]
print(kernels.silu(x).shape)
"""


def test_two_threads_may_call_at_once_even_where_numba_cannot():
    done = run(CROWD, NUMBA_THREADING_LAYER="workqueue")
    assert done.stdout.strip() == "(1000, 300)", done.stderr


def test_a_change_in_a_helpers_file_renews_the_kernels_that_were_kept(tmp_path):
    package = tmp_path / "minidiff"
    shutil.copytree(
        Path(kernels.__file__).parent, package / "kernels", ignore=shutil.ignore_patterns("*cache*")
    )
    (package / "__init__.py").touch()
    code = (
        "import numpy as np; from minidiff import kernels; print(kernels.silu(np.ones(1, np.float32))[0] < 0)"
    )
    there = {"PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "kept"), "cwd": tmp_path}
    assert run(code, **there).stdout.strip() == "False"
    helper = package / "kernels" / "math32.py"
    helper.write_text(helper.read_text() + "\n\n@device_in_order\ndef sigmoid(x):\n    return -x\n")
    assert run(code, **there).stdout.strip() == "True"
