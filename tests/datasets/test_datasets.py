"""The named data sets, the held-out split, and the map to and from the data's own units (EQUATIONS.md V11, S5)."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidiff import datasets
from minidiff.datasets import Units, from_raw
from minidiff.datasets.dataset import split

DISTRIBUTIONS = ("mixture1d", "s-curve", "moons", "swiss-roll", "checkerboard")
finite = st.floats(-1e6, 1e6)
positive = st.floats(1e-3, 1e6)


def fresh(name, count=20_000):
    return datasets.draw(name, count, np.random.default_rng(7))


# Named sets


def test_every_name_is_described_and_loads():
    assert {*DISTRIBUTIONS, "digits"} == set(datasets.NAMES)
    for name, description in datasets.NAMES.items():
        data = datasets.load(name)
        assert description and "\n" not in description
        assert data.name == name
        assert data.x.dtype == data.held_out.dtype == np.float32
        assert np.isfinite(data.x).all()


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_distributions_give_standardised_points_and_others_held_out(name):
    data = datasets.load(name)
    dimensions = 1 if name == "mixture1d" else 2
    assert data.x.shape == (100_000, dimensions) and data.held_out.shape == (10_000, dimensions)
    assert data.labels is None and data.held_out_labels is None and data.classes == 0
    np.testing.assert_allclose(np.mean(data.x, axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(np.std(data.x, axis=0), 1, atol=1e-5)
    np.testing.assert_allclose(np.std(data.held_out, axis=0), 1, atol=0.03)
    assert not np.isin(data.held_out[:, 0], data.x[:, 0]).all()


def test_the_seed_determines_the_points():
    first, again, other = (datasets.load("moons", seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.x, again.x)
    np.testing.assert_array_equal(first.held_out, again.held_out)
    assert not np.array_equal(first.x, other.x)


def test_mixture1d_has_the_weights_means_and_stds_of_S5():
    x = fresh("mixture1d", 100_000)[:, 0]
    for mean, std, weight in ((0.5, 0.01, 0.3), (0.1, 0.03, 0.4), (-0.4, 0.01, 0.3)):
        component = x[np.abs(x - mean) < 0.15]
        assert abs(len(component) / len(x) - weight) < 0.005
        assert abs(component.mean() - mean) < 5 * std / np.sqrt(len(component))
        assert abs(component.std() / std - 1) < 0.02


def test_s_curve_lies_on_two_circles_of_radius_one():
    x, y = fresh("s-curve").T
    off = np.minimum(np.abs(np.hypot(x, y + 1) - 1), np.abs(np.hypot(x, y - 1) - 1))
    assert np.sqrt(np.mean(off**2)) == pytest.approx(0.1, rel=0.1)
    # A quarter of each circle is missing: that makes it an S and not an 8.
    aside = (np.abs(x) > 0.5) & (np.abs(np.abs(y) - 0.5) < 0.25)
    assert np.mean(aside & (x * y < 0)) > 0.1 and np.mean(aside & (x * y > 0)) < 0.003


def test_moons_lie_on_two_half_circles():
    x, y = fresh("moons").T
    upper, lower = np.hypot(x, y), np.hypot(x - 1, y - 0.5)
    off = np.minimum(np.abs(upper - 1), np.abs(lower - 1))
    assert np.sqrt(np.mean(off**2)) == pytest.approx(0.05, rel=0.1)
    assert np.mean(np.abs(upper - 1) < np.abs(lower - 1)) == pytest.approx(0.5, abs=0.02)
    assert y.max() < 1.3 and y.min() > -0.8


def test_swiss_roll_has_the_angle_as_its_radius():
    x, y = fresh("swiss-roll").T
    turn = np.hypot(x, y) - np.arctan2(y, x)
    off = (turn + np.pi) % (2 * np.pi) - np.pi
    assert np.sqrt(np.mean(off**2)) == pytest.approx(0.4, rel=0.1)
    assert np.hypot(x, y).min() > 1.5 * np.pi - 2 and np.hypot(x, y).max() < 4.5 * np.pi + 2


def test_checkerboard_fills_the_dark_squares_alike():
    column, row = np.floor(fresh("checkerboard")).astype(int).T + 2
    assert (column + row).min() >= 0 and ((column + row) % 2 == 0).all()
    counts = np.bincount(4 * row + column, minlength=16)
    assert len(counts) == 16 and np.count_nonzero(counts) == 8
    np.testing.assert_allclose(counts[counts > 0] / counts.sum(), 1 / 8, atol=0.01)


def test_digits_are_the_published_ones_with_a_fifth_held_out():
    data = datasets.load("digits")
    assert data.x.shape == (1438, 8, 8, 1) and data.held_out.shape == (359, 8, 8, 1)
    assert data.labels.shape == (1438,) and data.held_out_labels.shape == (359,) and data.classes == 10
    assert np.min(data.x) == -1 and np.max(data.x) == 1
    levels = data.units.to_units(data.x)
    np.testing.assert_array_equal(levels, np.round(levels))
    assert levels.min() == 0 and levels.max() == 16
    # The first image of the set is a 0: empty in the middle, ink around it.
    np.testing.assert_array_equal(levels[0, 3, :, 0], [0, 4, 12, 0, 0, 8, 8, 0])


def test_unknown_names_and_missing_files_are_different_errors():
    with pytest.raises(datasets.UnknownDataset, match=r"no data set is called 'mnits'.*digits"):
        datasets.load("mnits")
    for path in ("./mnits", "no/such/folder", "missing.npz"):
        with pytest.raises(FileNotFoundError, match="no such file or folder"):
            datasets.load(path)
    with pytest.raises(ValueError, match="moons"):
        datasets.draw("digits", 3, np.random.default_rng(0))


# The split


@given(st.lists(st.integers(0, 5), min_size=2, max_size=300), st.sampled_from([0.1, 0.2]))
def test_the_split_is_a_stratified_partition(labels, fraction):
    labels = np.array(labels)
    keep, hold = split(len(labels), labels, fraction)
    np.testing.assert_array_equal(np.sort(np.concatenate([keep, hold])), np.arange(len(labels)))
    assert len(hold) == round(fraction * len(labels))
    excess = np.bincount(labels[hold], minlength=6) - fraction * np.bincount(labels, minlength=6)
    assert np.abs(excess).max() <= 1


def test_the_split_does_not_depend_on_the_seed_and_is_not_contiguous():
    raw = np.arange(200.0)
    first, other = from_raw("rows", raw), from_raw("rows", raw)
    np.testing.assert_array_equal(first.held_out, other.held_out)
    indices = np.round(first.units.to_units(first.held_out)[:, 0])
    assert len(indices) == 20 and indices.min() < 60 and indices.max() > 140
    np.testing.assert_array_equal(datasets.load("digits", 0).held_out, datasets.load("digits", 1).held_out)


def test_labels_stay_with_their_samples():
    raw = np.arange(90.0)[:, None]
    data = from_raw("rows", raw, np.arange(90) % 7)
    for x, labels in ((data.x, data.labels), (data.held_out, data.held_out_labels)):
        np.testing.assert_array_equal(np.round(data.units.to_units(x)[:, 0]) % 7, labels)
    assert data.classes == 7 and data.labels.dtype == np.int64


def test_with_too_few_samples_none_is_held_out():
    data = from_raw("pair", np.array([0.0, 1.0]), np.array([0, 1]))
    assert len(data.x) == 2 and data.held_out is None and data.held_out_labels is None


# Units


@pytest.mark.parametrize("top", [1, 16, 255, 65535])
def test_all_levels_of_images_survive_the_round_trip_exactly(top):
    levels = np.arange(top + 1)
    units = Units(top / 2, top / 2)
    x = units.from_units(levels)
    assert x.dtype == np.float32 and x[0] == -1 and x[-1] == 1 and (np.diff(x) > 0).all()
    back = units.to_units(x)
    assert back.dtype == np.float32
    np.testing.assert_array_equal(back, levels)


@given(st.lists(st.tuples(finite, positive), min_size=1, max_size=4))
def test_units_are_an_affine_map_and_survive_json(coordinates):
    offset, scale = zip(*coordinates, strict=True)
    units = Units(offset, scale)
    assert Units.from_dict(json.loads(json.dumps(units.to_dict()))) == units
    x = np.random.default_rng(0).standard_normal((50, len(units.scale))).astype(np.float32)
    expected = np.array(units.offset) + np.array(units.scale) * x.astype(np.float64)
    tolerance = 1e-6 * np.max(units.scale) + 1e-7 * np.abs(expected)
    assert (np.abs(units.to_units(x) - expected) <= tolerance).all()
    np.testing.assert_allclose(units.from_units(expected), x, atol=1e-5)


def test_small_differences_far_from_zero_are_not_lost():
    np.testing.assert_array_equal(Units(2.0**24, 1.0).from_units(2**24 + np.arange(-3, 4)), np.arange(-3, 4))
    assert Units(2.0**20 + 0.01, 1.0).from_units(np.float32(2**20)) == pytest.approx(-0.01, rel=1e-6)


def test_one_number_is_one_scale_for_all_axes():
    units = Units(127.5, 127.5)
    assert Units.from_dict(json.loads(json.dumps(units.to_dict()))) == units
    assert units.from_units(np.zeros((2, 3, 4, 1), np.uint8)).shape == (2, 3, 4, 1)


@pytest.mark.parametrize(
    "fields",
    [
        None,
        [1, 2],
        {"offset": 0.0},
        {"scale": 1.0, "shift": 0.0},
        {"offset": 0.0, "scale": 0.0},
        {"offset": 0.0, "scale": -1.0},
        {"offset": "low", "scale": 1.0},
        {"offset": float("nan"), "scale": 1.0},
        {"offset": [0.0, 1.0], "scale": 1.0},
        {"offset": [[0.0]], "scale": [[1.0]]},
    ],
)
def test_damaged_units_are_refused(fields):
    with pytest.raises(ValueError):
        Units.from_dict(fields)


def test_units_of_points_refuse_points_of_another_dimension():
    with pytest.raises(ValueError, match=r"\(…, 2\)"):
        Units([0.0, 0.0], [1.0, 1.0]).to_units(np.zeros((5, 1)))


@pytest.mark.parametrize(
    ("dtype", "low", "high", "expected"),
    [
        (np.uint8, 0, 255, (0, 255)),
        (np.uint8, 3, 250, (0, 255)),
        (np.uint8, 0, 16, (0, 16)),
        (np.uint8, 0, 1, (0, 1)),
        (np.float32, 0.01, 0.99, (0, 1)),
        (np.float64, -0.9, 1, (-1, 1)),
        (np.float32, 0, 254.5, (0, 255)),
        (np.int32, -500, 4095, (-500, 4095)),
    ],
)
def test_the_range_of_images_is_the_usual_one_that_fits(dtype, low, high, expected):
    raw = np.full((4, 2, 2), low, dtype)
    raw[1] = high
    units = from_raw("images", raw).units
    assert (units.offset - units.scale, units.offset + units.scale) == pytest.approx(expected)


def test_a_coordinate_that_does_not_vary_is_only_centred():
    raw = np.stack([np.arange(20.0), np.full(20, 5.0)], axis=1)
    data = from_raw("points", raw)
    assert (data.x[:, 1] == 0).all() and (data.units.to_units(data.x)[:, 1] == 5).all()


# The user's own arrays, and what cannot be used


def test_arrays_of_the_user_become_a_data_set_and_are_not_changed():
    images, labels = np.random.default_rng(0).integers(0, 256, (50, 6, 5), np.uint8), np.arange(50) % 4
    before = images.copy()
    data = from_raw("mine", images, labels)
    assert data.name == "mine" and data.classes == 4 and data.units == Units(127.5, 127.5)
    assert data.x.shape == (45, 6, 5, 1) and data.held_out.shape == (5, 6, 5, 1)
    np.asarray(data.x)[:] = 0
    data.x[:5][:] = 0
    np.testing.assert_array_equal(images, before)


def test_held_out_samples_can_be_given_or_be_any_fraction():
    raw, labels = np.arange(20.0), np.arange(20) % 2
    data = from_raw("mine", raw, labels, held_out=raw[:5] + 0.5, held_out_labels=labels[:5])
    assert len(data.x) == 20 and len(data.held_out) == 5
    np.testing.assert_array_equal(data.held_out_labels, labels[:5])
    np.testing.assert_allclose(data.units.to_units(data.held_out)[:, 0], raw[:5] + 0.5)
    assert from_raw("mine", raw, held_out_fraction=0.0).held_out is None
    assert len(from_raw("mine", raw, held_out_fraction=0.5).held_out) == 10


def test_limits_hold_up_to_the_rounding_of_float32():
    raw = np.zeros((3, 2, 2), np.float32)
    raw[0] = 0.1  # rounded up to more than 0.1
    units = from_raw("images", raw, limits=(0, 0.1)).units
    assert (units.offset, units.scale) == (0.05, 0.05)


nan_in_7 = np.arange(40.0).reshape(20, 2)
nan_in_7[7, 1] = np.nan


@pytest.mark.parametrize(
    ("raw", "labels", "message"),
    [
        (nan_in_7, None, "got nan in sample 7"),
        (np.array([0.0, 1.0, np.inf]), None, "got inf in sample 2"),
        (np.array([0.0, 1.0, -1e200]), None, "got -1e.200 in sample 2"),
        (np.zeros((1, 4)), None, "at least 2 samples, got 1"),
        (np.zeros((0, 4)), None, "at least 2 samples, got 0"),
        (np.zeros((4, 0)), None, "got an array"),
        (np.array(3.0), None, "got an array"),
        (np.zeros((2, 2, 2, 2, 2)), None, "got an array"),
        (np.zeros((5, 3, 32, 32)), None, r"channels last.*; np.moveaxis\(array, 1, -1\) puts them last"),
        (np.zeros((5, 32, 32, 7)), None, r"channels last, got an array \(5, 32, 32, 7\)$"),
        (np.full((5, 3), 2.0), None, "all the same"),
        (np.tile([1.0, 2.0], (5, 1)), None, "all the same"),
        (np.zeros((5, 8, 8)), None, "all the same"),
        (np.array(["a", "b"]), None, "real numbers"),
        (np.array([1j, 2]), None, "real numbers"),
        (np.arange(5.0), np.arange(4), "5 integer labels"),
        (np.arange(5.0), np.arange(5.0), "5 integer labels"),
        (np.arange(5.0), np.arange(5) - 1, "from 0.*got -1…3; np.unique"),
        (np.arange(5.0), np.arange(5) * 10**9, "from 0"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(raw, labels, message):
    with pytest.raises(ValueError, match=rf"^somewhere: .*{message}") as caught:
        from_raw("somewhere", raw, labels)
    assert "\n" not in str(caught.value)


def test_held_out_samples_must_have_the_shape_of_the_others():
    with pytest.raises(ValueError, match="held-out"):
        from_raw(
            "images", np.eye(4)[None].repeat(3, 0) * np.arange(3)[:, None, None], held_out=np.zeros((2, 5, 5))
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"held_out": [1.0]}, "^mine, held out: expected at least 2 samples, got 1"),
        ({"held_out": [1.0, np.nan]}, "^mine, held out: expected finite numbers, got nan in sample 1"),
        ({"held_out": [1.0, 2.0], "held_out_labels": [0]}, "^mine, held out: expected 2 integer labels"),
        ({"held_out_labels": [0]}, "^mine: expected held_out with held_out_labels, got None"),
        ({"held_out_fraction": -0.1}, r"^mine: expected held_out_fraction in \[0, 1\).*got -0.1"),
        ({"held_out_fraction": 0.99}, "^mine: .*samples left to train on, got 0.99"),
        ({"held_out_fraction": np.inf}, "^mine: .*got inf"),
        ({"held_out_fraction": np.nan}, "^mine: .*got nan"),
    ],
)
def test_held_out_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        from_raw("mine", np.arange(5.0), **options)


@pytest.mark.parametrize("limits", [(0, 1), (1, 7), (7, 0), (3, 3), (np.nan, 7)])
def test_limits_that_do_not_hold_all_values_are_refused(limits):
    with pytest.raises(ValueError, match=r"^images: expected limits \(low, high\).*here 0…7, got"):
        from_raw("images", np.arange(8.0).reshape(2, 2, 2), limits=limits)


@pytest.mark.parametrize("kind", ["points", "images"])
@pytest.mark.parametrize("size", [1.0, 1e9, 1e30])
@pytest.mark.parametrize("spread", [1e-12, 1e-9, 1e-3, 0.3])
def test_values_that_float32_cannot_tell_apart_are_refused(kind, size, spread):
    shape = (50, 2) if kind == "points" else (50, 4, 4)
    raw = size * (1 + spread * np.random.default_rng(0).random(shape))
    if spread < 1e-8:
        with pytest.raises(ValueError, match=r"mine: .*float32 cannot resolve there; subtract an offset"):
            from_raw("mine", raw)
    else:
        data = from_raw("mine", raw, held_out_fraction=0)
        assert np.abs(data.units.to_units(data.x).reshape(raw.shape) - raw).max() < spread * size / 32
