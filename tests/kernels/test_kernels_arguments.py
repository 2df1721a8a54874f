"""The arguments of kernels: any memory layout is accepted; invalid ones are refused before a kernel runs."""

import contextlib
import inspect
import re
from collections import Counter

import numpy as np
import pytest
from examples import CASES, PUBLIC, arrays, changed, example, kernel, name_of, replaced, results

from minidiff import kernels
from minidiff.kernels import reference, shapes

every_case = pytest.mark.parametrize("case", CASES)


def floats(case):
    return [key for key, array in arrays(example(case)).items() if array.dtype.kind == "f"]


every_array = pytest.mark.parametrize(
    "case, key", [(case, key) for case in CASES for key in arrays(example(case))]
)
every_float = pytest.mark.parametrize("case, key", [(case, key) for case in CASES for key in floats(case)])
every_changed = pytest.mark.parametrize("case, key", [(case, key) for case in CASES for key in changed(case)])


def call(case, arguments):
    return results(case, kernel(case)(**arguments), arguments)


def refuse(case, error, message, wrong):
    """The call must fail with this message of one line, a regular expression, and change no argument.

    The call without what is wrong goes before: that its check is remembered must not let the other pass.
    """
    kernel(case)(**example(case))
    arguments = replaced(example(case), wrong)
    before = {name: array.copy() for name, array in arrays(arguments).items()}
    with pytest.raises(error, match=message) as refusal:
        kernel(case)(**arguments)
    assert re.fullmatch(f"{name_of(case)}: .{{1,250}}", str(refusal.value))
    for name, array in arrays(arguments).items():
        np.testing.assert_array_equal(array, before[name])


def naming(key):
    """What a message about the shape of `key` has in it: it must be another, or is given to explain that of another."""
    return rf"\b{key.partition('[')[0]}(\[\d\])?( must be| [(\[]| is,)"


def strided_copy(a):
    """The same numbers in every second element of a larger array, from its second on."""
    wide = np.zeros([2 * n + 1 for n in a.shape], a.dtype)
    strided = wide[tuple(slice(1, None, 2) for _ in a.shape)]
    strided[...] = a
    return strided


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def misaligned(a):
    shifted = np.zeros(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
    shifted[...] = a
    return shifted


LAYOUTS = {
    "fortran": np.asfortranarray,
    "strided": strided_copy,
    "reversed": lambda a: np.ascontiguousarray(a[::-1])[::-1],
    "read-only": read_only,
    "misaligned": misaligned,
    "subclass": lambda a: a.view(type("Subclass", (np.ndarray,), {})),
}


@pytest.mark.compiled
@pytest.mark.parametrize("layout", LAYOUTS)
@every_case
def test_the_layout_of_inputs_changes_no_bit(case, layout):
    plain = example(case)
    other = {key: LAYOUTS[layout](a) for key, a in arrays(plain).items() if key not in changed(case)}
    if not other:
        pytest.skip("all of it is changed in place")
    assert layout == "fortran" or all(a.flags.carray is (layout == "subclass") for a in other.values())
    for got, expected in zip(call(case, replaced(example(case), other)), call(case, plain), strict=True):
        assert type(got) is np.ndarray and got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)


def in_order(case, arguments):
    """The positional arguments, with the defaults of those that are left out."""
    bound = inspect.signature(kernel(case)).bind(**arguments)
    bound.apply_defaults()
    return bound.args


@every_case
def test_positional_arguments_are_the_same_as_keywords(case):
    by_position, by_name = example(case), example(case)
    got = results(case, kernel(case)(*in_order(case, by_position)), by_position)
    for a, b in zip(got, call(case, by_name), strict=True):
        np.testing.assert_array_equal(a, b)


@every_case
def test_inputs_are_not_changed(case):
    arguments = example(case)
    before = {key: array.copy() for key, array in arrays(arguments).items() if key not in changed(case)}
    kernel(case)(**arguments)
    for key, array in before.items():
        np.testing.assert_array_equal(arrays(arguments)[key], array)


@pytest.mark.parametrize("dtype", ["f2", "f8", ">f4", "i4", "c8", "?", "O"])
@every_float
def test_one_array_of_another_dtype_is_refused(case, key, dtype):
    if dtype == "f8" and len(floats(case)) == 1:
        pytest.skip("float64 alone is valid")
    wrong = np.abs(arrays(example(case))[key]).astype(dtype)
    refuse(case, TypeError, naming(key), {key: wrong})
    refuse(case, TypeError, re.escape(str(np.dtype(dtype))), {key: wrong})


@pytest.mark.parametrize("value", [None, 3.0, [1.0, 2.0], "words"], ids=str)
@every_array
def test_what_is_not_an_array_is_refused_by_name(case, key, value):
    optional = key in ("residual", "ema")
    if optional and value is None:
        pytest.skip("None is valid")
    message = f"{key} must be a NumPy array{' or None' * optional}, not {type(value).__name__}"
    refuse(case, TypeError, re.escape(message), {key: value})


LISTS = [(name, key) for name in PUBLIC for key, value in example(name).items() if isinstance(value, list)]


@pytest.mark.parametrize(
    "value", [None, 3.0, np.ones((3, 24, 24), np.float32), "words"], ids=["None", "3", "array", "words"]
)
@pytest.mark.parametrize("case, key", LISTS)
def test_what_is_not_a_list_is_refused_by_name(case, key, value):
    message = f"{key} must be a list, not {type(value).__name__}"
    refuse(case, TypeError, re.escape(message), {key: value})


@pytest.mark.compiled
@pytest.mark.parametrize("case", ["perceptron", "perceptron_backward"])
def test_tuples_are_accepted_for_lists_whatever_the_layout(case):
    def in_tuples(value):
        return tuple(map(in_tuples, value)) if isinstance(value, list) else value

    plain = example(case)
    fixed_weights = replaced(
        example(case), {f"weights[{i}]": read_only(w) for i, w in enumerate(plain["weights"])}
    )
    given = {key: in_tuples(value) for key, value in fixed_weights.items()}
    for got, expected in zip(call(case, given), call(case, plain), strict=True):
        np.testing.assert_array_equal(got, expected)


def axes(case):
    """The letter of each axis of each array of a case; an axis in `...` has a name of its own."""
    arguments, letters = example(case), {}
    for argument in shapes.arguments(getattr(reference, name_of(case)).shapes):
        value = arguments.get(argument.name)
        if value is None or isinstance(value, tuple):
            continue
        shape = [a.shape for a in value] if isinstance(value, list) else value.shape
        for name, sizes, choices in shapes._arrays(argument, shape, {}, str):
            (letters[name],) = (
                fitted for form in choices if len(fitted := unfold(form, len(sizes))) == len(sizes)
            )
    return letters


def unfold(form, count):
    if "..." not in form:
        return form
    before, many = form.index("..."), count - len(form) + 1
    return (*form[:before], *(f"...{i}" for i in range(many)), *form[before + 1 :])


@every_case
def test_every_array_has_its_shape_in_the_specification(case):
    assert set(axes(case)) == set(arrays(example(case)))


@every_array
def test_another_number_of_axes_is_refused_by_name(case, key):
    if (name_of(case), key) in (("add", "a"), ("silu", "x"), ("group_norm", "x")):
        pytest.skip("any number of axes is valid")
    if name_of(case) == "conv2d" and key == "b":
        pytest.skip("one bias and one for each image are valid")
    array = arrays(example(case))[key]
    for wrong in (array[None], array[0, ...], array.reshape(-1)[:1].reshape(())):
        refuse(case, ValueError, naming(key), {key: wrong})


@every_array
def test_an_axis_of_another_length_is_refused_by_name_where_its_letter_stands_twice(case, key):
    letters = axes(case)
    stands = Counter(letter for form in letters.values() for letter in form if not letter.endswith("ᵢ"))
    array = arrays(example(case))[key]
    for axis, letter in enumerate(letters[key]):
        for wrong in (
            np.concatenate([array, array.take([0], axis)], axis),
            array.take(range(array.shape[axis] - 1), axis),
        ):
            if stands[letter] > 1:
                refuse(case, ValueError, naming(key), {key: wrong})
                refuse(case, ValueError, re.escape(letter.rstrip("0123456789")), {key: wrong})
            else:  # valid, or refused for another reason
                with contextlib.suppress(ValueError, IndexError):
                    kernel(case)(**replaced(example(case), {key: wrong}))


@pytest.mark.parametrize(
    "case, key", [(c, k) for c in CASES for k, v in example(c).items() if isinstance(v, list)]
)
def test_a_list_of_another_length_is_refused_by_name(case, key):
    value = example(case)[key]
    for wrong in ([], value[:-1], [*value, value[-1]]):
        refuse(case, ValueError, naming(key), {key: wrong})


@every_case
def test_results_have_the_shapes_of_the_specification(case):
    arguments, parts = example(case), getattr(reference, name_of(case)).shapes
    values = dict.fromkeys(inspect.signature(kernel(case)).parameters) | arguments
    text = " ".join(part for part in parts if isinstance(part, str)).partition("->")[2]
    returned = kernel(case)(**arguments)
    returned = returned if isinstance(returned, tuple) else (returned,) if text else ()
    names = [result.name for result in shapes.parse(text)]
    values |= dict(zip(names, returned, strict=True))
    shapes.bind((*parts, text), {name: shape_of(value) for name, value in values.items()})


def shape_of(value):
    if isinstance(value, list):
        return [item.shape for item in value]
    return value.shape if isinstance(value, np.ndarray) else () if isinstance(value, float) else value


NUMBERS = [
    (case, key)
    for case in CASES
    for key, value in example(case).items()
    if isinstance(value, (int, float)) and not isinstance(value, bool)
]
every_number = pytest.mark.parametrize("case, key", NUMBERS)


@pytest.mark.parametrize("value", ["3", None, 1j, [2]], ids=str)
@every_number
def test_what_is_not_a_number_is_refused_by_name(case, key, value):
    refuse(case, TypeError, f"{key} must be (a number|an integer)", {key: value})


@pytest.mark.parametrize("case, key", [(c, k) for c, k in NUMBERS if isinstance(example(c)[k], int)])
def test_a_count_must_be_an_integer(case, key):
    refuse(case, TypeError, f"{key} must be an integer, not 2.5", {key: 2.5})


@every_number
def test_numpy_scalars_are_accepted_as_numbers(case, key):
    arguments, plain = example(case), example(case)
    arguments[key] = np.float64(plain[key]) if isinstance(plain[key], float) else np.int32(plain[key])
    for got, expected in zip(call(case, arguments), call(case, plain), strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    "name, wrong, message",
    [
        ("conv2d", dict(stride=0), "stride must be at least 1"),
        (
            "conv2d",
            dict(padding=((-1, 1), (1, 1))),
            r"padding must be at least 0, got \(\(-1, 1\), \(1, 1\)\)",
        ),
        ("conv2d", dict(padding=((0, 0), (0, 0)), x=np.ones((1, 2, 2, 5), np.float32)), "does not fit"),
        ("conv2d_backward_input", dict(size=(4, 3)), r"g must be \(B, H', W', O\) = \(B, 4, 3, 7\)"),
        ("conv2d_backward_weight", dict(kernel=(2, 3)), r"g must be \(B, H', W', O\) = \(2, 4, 3, O\)"),
        ("group_norm", dict(groups=3), "groups must divide C = 8"),
        ("group_norm", dict(groups=0), "groups must divide C = 8"),
        ("attention", dict(heads=3), "heads must divide C = 8"),
        ("attention", dict(heads=-2), "heads must divide C = 8"),
        ("adam", dict(step=0), "step must be at least 1, not 0"),
    ],
)
def test_settings_out_of_range_are_refused(name, wrong, message):
    refuse(name, ValueError, message, wrong)


@pytest.mark.parametrize(
    "name, wrong, message",
    [
        ("conv2d", dict(padding=1), r"padding must be like \(\(1, 1\), \(1, 1\)\), not 1"),
        ("conv2d", dict(padding=((1, 1), (1, 1.5))), "padding must be like"),
        ("conv2d_backward_input", dict(size=3), r"size must be like \(1, 1\), not 3"),
        ("conv2d_backward_weight", dict(kernel=(3,)), "kernel must be like"),
        ("group_norm", dict(silu=1), "silu must be True or False, not 1"),
        ("perceptron", dict(keep=1), "keep must be True or False, not 1"),
        ("perceptron", dict(index=np.zeros((2, 2))), "index must hold integers"),
        ("scatter_rows", dict(index=np.zeros(2)), "index must hold integers"),
        ("add_rows", dict(index=np.zeros(2)), "index must hold integers"),
    ],
)
def test_settings_of_another_kind_are_refused(name, wrong, message):
    refuse(name, TypeError, message, wrong)


@pytest.mark.parametrize("index", [[0, 9], [-1, 0]])
@pytest.mark.parametrize("name", ["scatter_rows", "add_rows", "perceptron"])
def test_an_index_out_of_range_is_refused(name, index):
    index = np.array([index, [0, 0]] if name == "perceptron" else index)
    refuse(name, IndexError, "index must lie in 0…8", {"index": index})


def test_lists_are_accepted_for_pairs():
    given = example("conv2d") | {"padding": [[1, 1], [1, 1]]}
    np.testing.assert_array_equal(kernels.conv2d(**given), kernels.conv2d(**example("conv2d")))


@every_case
def test_too_few_too_many_or_unknown_arguments_are_refused(case):
    arguments = example(case)
    required = [p for p in inspect.signature(kernel(case)).parameters.values() if p.default is p.empty]
    with pytest.raises(TypeError, match="missing a required argument"):
        kernel(case)(*in_order(case, arguments)[: len(required) - 1])
    with pytest.raises(TypeError, match="too many positional"):
        kernel(case)(*in_order(case, arguments), 1)
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        kernel(case)(**arguments, colour=1)


@every_changed
def test_what_is_changed_in_place_must_be_contiguous_aligned_and_writeable(case, key):
    array = arrays(example(case, batch=10))[key]
    others = {name: a for name, a in arrays(example(case, batch=10)).items() if name != key}
    for wrong in (
        read_only(array),
        misaligned(array),
        strided_copy(array),
        np.ascontiguousarray(array[::-1])[::-1],
    ):
        message = f"{key}, changed in place, must be contiguous, aligned and not read-only"
        refuse(case, ValueError, re.escape(message), others | {key: wrong})


@every_changed
def test_what_is_changed_in_place_must_not_share_memory_with_another(case, key):
    given = arrays(example(case, batch=10))
    for other, array in given.items():
        if other == key:
            continue
        memory = np.zeros(given[key].nbytes + array.nbytes, np.uint8)
        start = given[key].nbytes - array.itemsize  # the last number of one is the first of the other
        own = memory[: given[key].nbytes].view(np.float32).reshape(given[key].shape)
        theirs = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
        own[...], theirs[...] = given[key], array
        refuse(case, ValueError, "must not share memory with", given | {key: own, other: theirs})
        if array.shape == given[key].shape:
            refuse(case, ValueError, re.escape(key), given | {key: array})


@every_changed
def test_a_subclass_is_changed_in_place_too(case, key):
    arguments, plain = example(case), example(case)
    base = arrays(arguments)[key]
    arguments = replaced(arguments, {key: base.view(type("Subclass", (np.ndarray,), {}))})
    call(case, arguments)
    call(case, plain)
    np.testing.assert_array_equal(base, arrays(plain)[key])


@pytest.mark.parametrize("batch, size", [(0, 3), (1, 1), (2, 1), (1, 2), (3, 7)])
@every_case
def test_other_sizes_an_empty_batch_and_one_pixel_match_the_reference(case, batch, size):
    exact = call(case, example(case, batch, size, np.float64))
    for got, expected in zip(call(case, example(case, batch, size)), exact, strict=True):
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)


@every_case
def test_nan_and_infinity_propagate_without_a_warning(case, recwarn):
    arguments = example(case)
    for key in floats(case):
        array = arrays(arguments)[key]
        array[...] = np.inf
        array.reshape(-1)[0] = np.nan
    assert any(np.isnan(result).any() for result in call(case, arguments))
    assert not recwarn.list
