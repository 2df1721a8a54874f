"""What a kernel is handed: any layout of memory will do; what will not do is refused in words, before it runs."""

import contextlib
import re

import numpy as np
import pytest
from examples import CHANGED, PUBLIC, example, results

from minidiff import kernels

every_kernel = pytest.mark.parametrize("name", PUBLIC)


def arrays(name):
    return [key for key, value in example(name).items() if isinstance(value, np.ndarray)]


def floats(name):
    return [key for key in arrays(name) if key != "index"]


every_array = pytest.mark.parametrize("name, key", [(name, key) for name in PUBLIC for key in arrays(name)])
every_float = pytest.mark.parametrize("name, key", [(name, key) for name in PUBLIC for key in floats(name)])


def call(name, arguments):
    return results(name, getattr(kernels, name)(**arguments), arguments)


def refuse(name, error, words, **wrong):
    """The call must fail with `words` in its message, and leave everything as it was."""
    arguments = example(name) | wrong
    before = {k: v.copy() for k, v in arguments.items() if isinstance(v, np.ndarray)}
    with pytest.raises(error, match=words):
        getattr(kernels, name)(**arguments)
    for k, v in before.items():
        np.testing.assert_array_equal(arguments[k], v)


def far_apart(a):
    """The same numbers in every second place of another array, which begins 8 bytes late."""
    wide = np.zeros([2 * n + 1 for n in a.shape], a.dtype)
    there = wide[tuple(slice(1, None, 2) for _ in a.shape)]
    there[...] = a
    return there


def fixed(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def misaligned(a):
    there = np.zeros(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
    there[...] = a
    return there


LAYOUTS = {
    "fortran": np.asfortranarray,
    "strided": far_apart,
    "reversed": lambda a: np.ascontiguousarray(a[::-1])[::-1],
    "read-only": fixed,
    "misaligned": misaligned,
    "subclass": lambda a: a.view(type("Subclass", (np.ndarray,), {})),
}


@pytest.mark.compiled
@pytest.mark.parametrize("layout", LAYOUTS)
@every_kernel
def test_the_layout_of_what_is_read_changes_no_bit(name, layout):
    plain, arguments = example(name), example(name)
    read = [key for key in arrays(name) if key not in CHANGED.get(name, ())]
    if name in (*CHANGED, "squared_norm") and layout in ("strided", "reversed"):
        pytest.skip("flat vectors are contiguous")
    for key in read:
        arguments[key] = LAYOUTS[layout](arguments[key])
        assert layout == "fortran" or arguments[key].flags.carray is (layout == "subclass")
    for got, expected in zip(call(name, arguments), call(name, plain), strict=True):
        assert type(got) is np.ndarray and got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)


@every_kernel
def test_arguments_in_their_order_are_the_same_as_by_name(name):
    in_order, by_name = example(name), example(name)
    got = results(name, getattr(kernels, name)(*in_order.values()), in_order)
    for a, b in zip(got, call(name, by_name), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "name, key", [(name, key) for name in PUBLIC for key in arrays(name) if key not in CHANGED.get(name, ())]
)
def test_what_is_only_read_stays_as_it_was(name, key):
    arguments = example(name)
    before = arguments[key].copy()
    getattr(kernels, name)(**arguments)
    np.testing.assert_array_equal(arguments[key], before)


@pytest.mark.parametrize("dtype", ["f2", "f8", ">f4", "i4", "c8", "?", "O"])
@every_float
def test_one_array_of_another_dtype_is_refused(name, key, dtype):
    if dtype == "f8" and len(floats(name)) == 1:
        pytest.skip("float64 alone is right")
    wrong = np.abs(example(name)[key]).astype(dtype)
    refuse(name, TypeError, re.escape(str(np.dtype(dtype))), **{key: wrong})


@pytest.mark.parametrize("value", [None, 3.0, [1.0, 2.0], "words"], ids=str)
@every_array
def test_what_is_no_array_is_refused_by_name(name, key, value):
    refuse(name, TypeError, f"{key} must be a NumPy array, not {type(value).__name__}", **{key: value})


@every_array
def test_another_number_of_axes_is_refused(name, key):
    if (name, key) in (("silu", "x"), ("group_norm", "x")):
        pytest.skip("images of any number of axes are right")
    array = example(name)[key]
    refuse(name, ValueError, "shape", **{key: array[None]})
    refuse(name, ValueError, "shape", **{key: array[0, ...]})


# Where a kernel has its sizes from: another length may be right here, or be found wrong in another argument.
SIZES = {
    "linear": "x w", "linear_backward_input": "g w", "linear_backward_weight": "x g", "sum_rows": "g",
    "conv2d": "x w", "conv2d_backward_input": "g w", "conv2d_backward_weight": "x g", "group_norm": "x",
    "silu": "x", "attention": "q k v", "scatter_rows": "g", "squared_norm": "vector",
}  # fmt: skip


@every_array
def test_an_axis_of_another_length_is_refused(name, key):
    array = example(name)[key]
    for axis in range(array.ndim):
        longer = np.concatenate([array, array.take([0], axis)], axis)
        if key in SIZES.get(name, "").split():
            with contextlib.suppress(ValueError):
                getattr(kernels, name)(**example(name) | {key: longer})
        else:
            refuse(name, ValueError, "shape|divide", **{key: longer})


NUMBERS = [
    (n, k) for n in PUBLIC for k, v in example(n).items() if isinstance(v, (int, float)) and k != "silu"
]


@pytest.mark.parametrize("value", ["3", None, 1j, [2]], ids=str)
@pytest.mark.parametrize("name, key", NUMBERS)
def test_what_is_no_number_is_refused_by_name(name, key, value):
    refuse(name, TypeError, f"{key} must be (a number|an integer)", **{key: value})


@pytest.mark.parametrize("name, key", [(n, k) for n, k in NUMBERS if isinstance(example(n)[k], int)])
def test_a_count_must_be_whole(name, key):
    refuse(name, TypeError, f"{key} must be an integer, not 2.5", **{key: 2.5})


@pytest.mark.parametrize("name, key", NUMBERS)
def test_numbers_may_be_numpys(name, key):
    arguments, plain = example(name), example(name)
    arguments[key] = np.float64(plain[key]) if isinstance(plain[key], float) else np.int32(plain[key])
    for got, expected in zip(call(name, arguments), call(name, plain), strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    "name, wrong, words",
    [
        ("conv2d", dict(stride=0), "stride must be at least 1"),
        ("conv2d", dict(padding=((-1, 1), (1, 1))), "padding at least 0"),
        ("conv2d", dict(padding=((0, 0), (0, 0)), x=np.ones((1, 2, 2, 5), np.float32)), "does not fit"),
        ("conv2d_backward_input", dict(size=(4, 3)), "g must have shape"),
        ("conv2d_backward_weight", dict(kernel=(2, 3)), "g must have shape"),
        ("group_norm", dict(groups=3), "groups must divide"),
        ("group_norm", dict(groups=0), "groups must divide"),
        ("attention", dict(heads=3), "heads must divide"),
        ("attention", dict(heads=-2), "heads must divide"),
        ("adam", dict(step=0), "step counts from 1"),
    ],
)
def test_settings_out_of_range_are_refused(name, wrong, words):
    refuse(name, ValueError, words, **wrong)


@pytest.mark.parametrize(
    "name, wrong, words",
    [
        ("conv2d", dict(padding=1), r"padding must be like \(\(1, 1\), \(1, 1\)\), not 1"),
        ("conv2d", dict(padding=((1, 1), (1, 1.5))), "padding must be like"),
        ("conv2d_backward_input", dict(size=3), r"size must be like \(1, 1\), not 3"),
        ("conv2d_backward_weight", dict(kernel=(3,)), "kernel must be like"),
        ("group_norm", dict(silu=1), "silu must be True or False, not 1"),
        ("scatter_rows", dict(index=np.zeros(2)), "index must hold integers"),
    ],
)
def test_settings_of_another_kind_are_refused(name, wrong, words):
    refuse(name, TypeError, words, **wrong)


@pytest.mark.parametrize("index", [[0, 9], [-1, 0]])
def test_an_index_that_is_not_there_is_refused(index):
    refuse("scatter_rows", IndexError, "index must lie in 0…8", index=np.array(index))


def test_lists_do_for_pairs():
    given = example("conv2d") | {"padding": [[1, 1], [1, 1]]}
    np.testing.assert_array_equal(kernels.conv2d(**given), kernels.conv2d(**example("conv2d")))


@every_kernel
def test_too_few_too_many_or_unknown_arguments_are_refused(name):
    arguments = example(name)
    with pytest.raises(TypeError, match="missing a required argument"):
        getattr(kernels, name)(*list(arguments.values())[:-1])
    with pytest.raises(TypeError, match="too many positional"):
        getattr(kernels, name)(*arguments.values(), 1)
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        getattr(kernels, name)(**arguments, colour=1)


@pytest.mark.parametrize("name, key", [(name, key) for name, keys in CHANGED.items() for key in keys])
def test_what_is_changed_in_place_must_be_a_plain_vector_of_its_own(name, key):
    vector = example(name, batch=10)[key]
    others = {k: v for k, v in example(name, batch=10).items() if isinstance(v, np.ndarray)}
    for wrong in (fixed(vector), misaligned(vector)):
        refuse(name, ValueError, "aligned in memory, and not read-only", **others | {key: wrong})
    refuse(name, ValueError, "contiguous vectors of one size", **others | {key: far_apart(vector)})
    refuse(name, ValueError, "contiguous vectors of one size", **others | {key: vector.reshape(2, 5)})
    for other in others.keys() - {key}:
        refuse(name, ValueError, "share memory", **others | {key: others[other]})
        both = np.tile(np.abs(vector), 2)
        refuse(name, ValueError, "share memory", **others | {key: both[:10], other: both[5:15]})


@pytest.mark.parametrize("name, key", [(name, key) for name, keys in CHANGED.items() for key in keys])
def test_a_subclass_is_changed_in_place_too(name, key):
    arguments, plain = example(name), example(name)
    base = arguments[key]
    arguments[key] = base.view(type("Subclass", (np.ndarray,), {}))
    call(name, arguments)
    call(name, plain)
    np.testing.assert_array_equal(base, plain[key])


@pytest.mark.parametrize("batch, size", [(0, 3), (1, 1), (2, 1), (1, 2)])
@every_kernel
def test_an_empty_batch_and_a_single_pixel_are_as_the_reference_has_them(name, batch, size):
    wide = example(name, batch, size, np.float64)
    exact = results(name, getattr(kernels, name)(**wide), wide)
    for got, expected in zip(call(name, example(name, batch, size)), exact, strict=True):
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)


@every_kernel
def test_nan_and_infinity_come_out_without_a_word(name, recwarn):
    arguments = example(name)
    for key in floats(name):
        arguments[key][...] = np.inf
        arguments[key].reshape(-1)[0] = np.nan
    assert any(np.isnan(result).any() for result in call(name, arguments))
    assert not recwarn.list
