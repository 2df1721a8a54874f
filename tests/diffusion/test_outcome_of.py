"""The exact outcome of a sampler: what `Gaussian.outcome` takes, and which noise `outcome_of` can follow."""

import numpy as np
import pytest

from minidiff import samplers, schedules
from minidiff.diffusion.oracles import Gaussian, outcome_of
from minidiff.diffusion.samplers.ddim import steps as ddim_steps
from minidiff.diffusion.samplers.randomness import NoiseSource

SCHEDULE = schedules.linear(100, 1e-3, 0.1)
NORMAL = Gaussian(0.3, 0.04)


def test_the_start_of_an_outcome_has_the_dimension_of_the_data():
    mean, covariance = NORMAL.outcome(SCHEDULE, [], 1, 2)
    assert np.array_equal(mean, [1]) and np.array_equal(covariance, [[2]]) and mean.dtype == np.float64
    for start in (
        NORMAL.outcome(SCHEDULE, [], *pair) for pair in [(None, None), ([0.0], None), (None, [[1.0]])]
    ):
        assert start[0].shape == (1,) and start[1].shape == (1, 1)
    with pytest.raises(ValueError, match="mean and covariance of x_T in 1 dimensions, got 2"):
        NORMAL.outcome(SCHEDULE, [], np.zeros(2), np.eye(2))
    with pytest.raises(ValueError, match="mean and covariance of x_T in 3 dimensions, got 2"):
        next(outcome_of(lambda x, rng: [(0, x, x)], 3, np.zeros(2), np.eye(2)))


@pytest.mark.parametrize(
    "steps", [samplers.ddpm, lambda x_T, rng: None, 10], ids=["sampler", "run", "number"]
)
def test_an_outcome_takes_the_steps_of_a_sampler_not_the_sampler(steps):
    with pytest.raises(
        TypeError, match=r"AffineSteps of a sampler, such as ancestral.steps\(schedule\), got a"
    ):
        NORMAL.outcome(SCHEDULE, steps)


@pytest.mark.parametrize(
    ("wrap", "name"),
    [(lambda s: (s, 0.5), "tuple"), (lambda s: [s], "list"), (tuple, "tuple"), (lambda s: s.t, "int")],
)
def test_an_outcome_takes_affine_steps_and_nothing_around_them(wrap, name):
    first, second = ddim_steps(SCHEDULE, (100, 50, 0))
    with pytest.raises(TypeError, match=f"each step to be an AffineStep, got a {name}: .* use outcome_of"):
        NORMAL.outcome(SCHEDULE, [first, wrap(second)])


# ---- outcome_of: which noise it can follow


def outcome(draw, dim=2):
    """Mean and covariance of ½ x_T + 0.3 z, with z by `draw(rng, x)`."""
    ((_, mean, covariance),) = outcome_of(lambda x, rng: [(0, 0.5 * x + 0.3 * draw(rng, x), x)], dim)
    return mean, covariance


def into_given_memory(rng, x):
    out = np.full_like(x, np.nan)
    assert rng.standard_normal(out=out) is out
    return out


def from_blocks_of_blocks(rng, x):
    """Streams of 2 samples each, spawned in pairs."""
    streams = [half for pair in rng.spawn(-(-len(x) // 4)) for half in pair.spawn(2)]
    return np.concatenate([stream.standard_normal((2, x.shape[1])) for stream in streams])[: len(x)]


NORMAL_DRAWS = {
    "x.shape": lambda rng, x: rng.standard_normal(x.shape),
    "keyword": lambda rng, x: rng.standard_normal(size=(len(x), 2)),
    "list": lambda rng, x: rng.standard_normal([*x.shape]),
    "dtype": lambda rng, x: rng.standard_normal(x.shape, np.float32),
    "dtype by keyword": lambda rng, x: rng.standard_normal(x.shape, dtype=x.dtype),
    "out": into_given_memory,
    "of two only one": lambda rng, x: rng.standard_normal((len(x), 2, 2))[:, 1],
    "one coordinate at a time": lambda rng, x: np.stack(
        [rng.standard_normal(len(x)) for _ in range(2)], axis=1
    ),
    "normal": lambda rng, x: rng.normal(size=x.shape),
    "normal, all positional": lambda rng, x: rng.normal(0, 1, x.shape),
    "normal, scaled": lambda rng, x: rng.normal(scale=2.0, size=x.shape) / 2,
    "normal, about x": lambda rng, x: (rng.normal(x, 0.1) - x) / 0.1,
    "normal, array of scales": lambda rng, x: rng.normal(0.0, np.full(x.shape, 0.5)) / 0.5,
    "NoiseSource": lambda rng, x: NoiseSource(rng, x.shape, x.dtype)(),
    "spawned": lambda rng, x: rng.spawn(1)[0].normal(size=x.shape),
    "spawned in blocks of blocks": from_blocks_of_blocks,
    "spawned twice": lambda rng, x: rng.spawn(1)[0].spawn(1)[0].standard_normal(x.shape),
}


@pytest.mark.parametrize("draw", NORMAL_DRAWS.values(), ids=NORMAL_DRAWS)
def test_outcome_of_follows_normal_noise_however_it_is_drawn(draw):
    # NumPy too accepts the call
    assert isinstance(draw(np.random.default_rng(0), np.zeros((3, 2))), np.ndarray)
    mean, covariance = outcome(draw)
    assert mean == pytest.approx([0, 0])
    assert covariance == pytest.approx((0.25 + 0.09) * np.eye(2))


def test_outcome_of_follows_the_mean_of_the_noise_and_coordinates_that_share_it():
    mean, covariance = outcome(lambda rng, x: rng.normal([1.0, -2.0], [2.0, 1.0], size=x.shape))
    assert mean == pytest.approx([0.3, -0.6])
    assert covariance == pytest.approx(np.diag([0.25 + 0.36, 0.25 + 0.09]))
    _, covariance = outcome(lambda rng, x: rng.standard_normal((len(x), 1)))
    assert covariance == pytest.approx(0.25 * np.eye(2) + 0.09)


def test_outcome_of_keeps_apart_the_noise_of_several_sources():
    """66 numbers a sample: more than one block of 62 samples, and each source's blocks are streams of their own."""

    def run(x, rng):
        first, second = (NoiseSource(rng, x.shape, x.dtype) for _ in range(2))
        for t in (1, 0):
            x = 0.5 * x + 0.1 * first() + 0.2 * rng.standard_normal(x.shape) + 0.4 * second()
            yield t, x, x

    variance = 1.0
    for _, mean, covariance in outcome_of(run, 66):
        variance = 0.25 * variance + 0.01 + 0.04 + 0.16
        assert np.all(mean == 0)
        assert covariance == pytest.approx(variance * np.eye(66))


OTHER_DRAWS = sorted(
    name
    for name in dir(np.random.Generator)
    if not name.startswith("_") and name not in ("standard_normal", "normal", "spawn")
)


@pytest.mark.parametrize("name", OTHER_DRAWS)
def test_outcome_of_refuses_every_other_draw_by_its_name(name):
    with pytest.raises(
        ValueError, match=f"cannot follow rng.{name}: .* rng.standard_normal, rng.normal or Noise"
    ):
        outcome(lambda rng, x: getattr(rng, name)(x.shape))


def test_the_other_draws_are_those_that_numpy_has():
    assert {"random", "uniform", "integers", "choice", "exponential", "permutation", "shuffle"} < {
        *OTHER_DRAWS
    }
    assert {"multivariate_normal", "standard_t", "bytes", "bit_generator"} < {*OTHER_DRAWS}


@pytest.mark.parametrize("dim", [1, 2])
@pytest.mark.parametrize(
    "draw",
    [
        lambda rng, x: rng.standard_normal(),
        lambda rng, x: rng.normal(0.0, 1.0),
        lambda rng, x: rng.standard_normal(x.shape[1]),
        lambda rng, x: rng.standard_normal((2 * len(x), *x.shape[1:]))[: len(x)],
        lambda rng, x: rng.spawn(1)[0].standard_normal(x.shape[1]),
        lambda rng, x: rng.standard_normal((3, *x.shape))[0],
    ],
)
def test_outcome_of_refuses_noise_without_a_row_for_each_sample(draw, dim):
    with pytest.raises(
        ValueError, match=r"needs noise with a row for each sample: .* such as x.shape, got \("
    ):
        outcome(draw, dim)


def test_outcome_of_refuses_draws_that_depend_on_the_batch():
    for draw in (
        lambda rng, x: sum(rng.standard_normal(x.shape) for _ in x),
        lambda rng, x: rng.standard_normal((*x.shape, len(x)))[..., 0],
    ):
        with pytest.raises(ValueError, match="expects the same draws for any number of samples"):
            outcome(draw)


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng, x: np.random.default_rng(0).standard_normal(x.shape),
        lambda rng, x: np.random.default_rng().standard_normal(x.shape),
        lambda rng, x: (
            np.random.default_rng().standard_normal()
        ),  # the same for all samples, another in each run
        lambda rng, x: rng.spawn(1)[0].standard_normal((2 * len(x), *x.shape[1:]))[
            len(x) :
        ],  # rows of no sample
        lambda rng, x: rng.spawn(1)[0].standard_normal((len(x) + 1, *x.shape[1:]))[1:],
        lambda rng, x: x * rng.standard_normal(x.shape),
        lambda rng, x: rng.normal(0.0, np.abs(x)),
    ],
)
def test_outcome_of_says_what_a_sampler_that_is_not_affine_may_have_done(draw):
    with pytest.raises(
        ValueError, match=r"at t = 0 it is not. Use the exact .* draw all noise from the rng that"
    ):
        outcome(draw)


def test_outcome_of_refuses_a_negative_scale_as_numpy_does():
    for rng in (np.random.default_rng(0), None):
        with pytest.raises(ValueError, match=r"^scale < 0$"):
            outcome(lambda own, x, rng=rng: (rng or own).normal(0.0, -1.0, x.shape))


def test_outcome_of_takes_states_whose_arrays_are_used_again():
    def run(x, rng):
        x = x.copy()
        for t in (1, 0):
            x *= 0.5
            x += 1
            yield t, x, x

    assert [mean.tolist() for _, mean, _ in outcome_of(run, 1)] == [[1.0], [1.5]]
