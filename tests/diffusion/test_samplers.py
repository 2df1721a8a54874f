import threading
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidiff import nn, schedules
from minidiff.diffusion.denoiser import Denoiser
from minidiff.diffusion.oracles import FiniteData, Gaussian, mixture1d
from minidiff.diffusion.samplers import (
    SAMPLERS,
    State,
    ddim,
    ddpm,
    dpmpp_2m,
    final,
    heun,
    initial_noise,
    invert,
    plms,
    predictor_corrector,
    unipc,
)
from minidiff.diffusion.samplers.ancestral import steps as ddpm_steps
from minidiff.diffusion.samplers.ddim import steps as ddim_steps
from minidiff.diffusion.samplers.dpm_solver import steps as dpm_steps
from minidiff.diffusion.samplers.langevin import steps as pc_steps
from minidiff.diffusion.samplers.randomness import NoiseSource
from minidiff.diffusion.samplers.timesteps import leading, quadratic, trailing

PAPER = schedules.linear()
SHORT = schedules.linear(20, 0.01, 0.4)
NOISY = [
    (ddpm, {"variance": "small"}),
    (ddpm, {"variance": "large"}),
    (ddpm, {"variance": "learned"}),
    (ddim, {"eta": 0.6}),
    (ddim, {"eta": 1.0}),
    (ddim, {"eta": 1.0, "sigma_hat": True}),
    (dpmpp_2m, {"sde": True}),
    (heun, {"churn": 2.0}),
    (predictor_corrector, {}),
]
QUIET = [(ddim, {}), (plms, {}), (dpmpp_2m, {}), (heun, {}), (unipc, {}), (unipc, {"order": 3})]
EVERY = [*NOISY, *QUIET]
WHOLE_TIMES_ONLY = (ddpm, predictor_corrector)


def case_name(sampler, options):
    return "-".join([sampler.__name__, *map(str, options.values())])


every_sampler = pytest.mark.parametrize(("sampler", "options"), EVERY, ids=[case_name(*one) for one in EVERY])
every_noisy = pytest.mark.parametrize(("sampler", "options"), NOISY, ids=[case_name(*one) for one in NOISY])


class WithVariance:
    """A denoiser with a learned variance: log σ² = log β̃ + `fraction` · (log β − log β̃)."""

    def __init__(self, denoiser, fraction=0.3):
        self.denoiser, self.schedule, self.fraction = denoiser, denoiser.schedule, fraction

    def __call__(self, x, t):
        schedule = self.schedule
        if schedule.T == 1 or not isinstance(t, int):
            return self.denoiser(x, t)
        low, high = np.log(schedule.posterior_variance[max(t, 2)]), np.log(schedule.beta[t])
        log_variance = np.full_like(x, low + self.fraction * (high - low))
        return self.denoiser(x, t)._replace(log_variance=log_variance)


def shrink(x, t):
    return x / 3


WITH_VARIANCE = WithVariance(Denoiser(shrink, SHORT))


def counted_from_zero(x, t):
    """The network of the golden values: ε(x, t) = x·t/(t+1) with t counted 0…T−1."""
    return x * ((t - 1) / t).reshape(-1, 1, 1, 1)


@pytest.mark.parametrize(
    ("beta_start", "clean", "first_time"), [(1e-4, 172.0065, None), (0.01, 149.8295, 149.0784)]
)
def test_golden_values_of_ddim_with_leading_times_clipped_at_each_step(beta_start, clean, first_time):
    x_T = (np.arange(768).reshape(3, 8, 8, 4) / 768).transpose(3, 0, 1, 2)
    denoiser = Denoiser(counted_from_zero, schedules.linear(1000, beta_start), clip=(-1, 1))
    states = list(ddim(denoiser, x_T, np.random.default_rng(0), leading(1000, 10)))
    assert [state.t for state in states[-2:]] == [1, 0]
    assert np.abs(states[-1].x).sum() == pytest.approx(clean, abs=1e-3)
    if first_time is not None:
        assert np.abs(states[-2].x).sum() == pytest.approx(first_time, abs=1e-3)


def test_golden_values_of_dpm_solver_2m():
    """Stopped at time 1 after a second-order step, and at clean data after a first-order one."""
    x_T = (np.arange(768).reshape(3, 8, 8, 4) / 768).transpose(3, 0, 1, 2)
    times = (1000, 900, 800, 700, 600, 501, 401, 301, 201, 101)

    def run(*last):
        denoiser = Denoiser(counted_from_zero, schedules.linear())
        return list(dpmpp_2m(denoiser, x_T, np.random.default_rng(0), (*times, *last)))

    assert np.abs(run(1, 0)[-2].x).mean() == pytest.approx(0.33015, abs=1e-4)
    assert np.abs(run(0)[-1].x).mean() == pytest.approx(0.24090, abs=1e-4)
    assert np.abs(run(0)[-1].x).sum() == pytest.approx(185.0114, abs=1e-3)


@pytest.mark.parametrize(("t", "s", "variance"), [(420, 400, 0.14772), (980, 960, 0.32461)])
def test_golden_variances_of_ddim_at_eta_1(t, s, variance):
    step = ddim_steps(PAPER, (t + 1, s + 1, 0), eta=1.0)[0]
    assert step.sigma**2 == pytest.approx(variance, abs=1e-5)


def test_clipping_derives_eps_again():
    """One step by hand with active clipping: x̂_0 = 0.8/√0.25 → 1, and ε̂ = (1 − √0.25·1)/√0.75."""
    schedule = schedules.from_alpha_bar([0.64, 0.25])
    denoiser = Denoiser(lambda x, t: np.full_like(x, 0.2 / 0.75**0.5), schedule, clip=(-1, 1))
    (first, _) = ddim(denoiser, np.ones((1, 1)), np.random.default_rng(0))
    assert first.x0.item() == 1
    assert first.x.item() == pytest.approx(0.8 + 0.6 * 0.5 / 0.75**0.5, rel=1e-14)


@every_sampler
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_states_hold_the_time_reached_end_at_0_and_have_the_dtype_of_x(sampler, options, dtype):
    denoiser = WITH_VARIANCE
    x_T = initial_noise(np.random.default_rng(0), (3, 2, 2, 1), dtype)
    states = list(sampler(denoiser, x_T, np.random.default_rng(1), (20, 11, 4, 0), **options))
    assert [state.t for state in states] == [11, 4, 0]
    for state in states:
        assert state.x.shape == state.x0.shape == x_T.shape
        assert state.x.dtype == state.x0.dtype == dtype
    assert np.array_equal(states[-1].x, states[-1].x0)  # the last step returns x̂_0


@every_sampler
def test_by_default_every_time_is_visited(sampler, options):
    states = sampler(WITH_VARIANCE, np.ones((2, 1)), np.random.default_rng(0), **options)
    assert [state.t for state in states] == list(range(19, -1, -1))


@pytest.mark.parametrize(
    "plan", [ddpm_steps, lambda *a: ddpm_steps(*a, "large"), lambda *a: ddim_steps(*a, 0.7)]
)
def test_a_subsequence_of_times_is_the_respaced_schedule(plan):
    times = quadratic(1000, 23)
    respaced = schedules.respaced(PAPER, times)
    for here, there in zip(plan(PAPER, times), plan(respaced, None), strict=True):
        assert here[2:] == pytest.approx(there[2:], rel=1e-12)
        assert (here.t, here.s) == (respaced.times[there.t], respaced.times[there.s])


@pytest.mark.parametrize(("sampler", "options"), [one for one in EVERY if "churn" not in one[1]])
def test_a_respaced_schedule_gives_the_same_samples(sampler, options):
    """Except churn, which visits times between those of the list; a respaced schedule has none."""
    times, data = trailing(1000, 10), mixture1d()
    x_T = initial_noise(np.random.default_rng(0), (4, 1), np.float64)
    whole = WithVariance(Denoiser(data.network(PAPER), PAPER))
    one = sampler(whole, x_T, np.random.default_rng(1), times, **options)
    respaced = WithVariance(Denoiser(data.network(PAPER), schedules.respaced(PAPER, times)))
    other = sampler(respaced, x_T, np.random.default_rng(1), **options)
    assert final(one) == pytest.approx(final(other), abs=1e-9)


@every_sampler
def test_a_schedule_respaced_to_all_of_its_times_is_sampled_the_same(sampler, options):
    respaced = schedules.respaced(SHORT, range(20, -1, -1))
    x_T = initial_noise(np.random.default_rng(0), (4, 2), np.float64)
    one, other = (
        final(sampler(WithVariance(Denoiser(shrink, schedule)), x_T, np.random.default_rng(1), **options))
        for schedule in (SHORT, respaced)
    )
    assert one == pytest.approx(other, rel=1e-12)


@every_sampler
@pytest.mark.parametrize("shape", [(1,), (2,), (8, 8, 1), (70, 70)])
def test_a_sample_does_not_depend_on_the_size_of_the_batch(sampler, options, shape):
    count = 1000 if len(shape) < 2 else 80

    def run(n):
        rng = np.random.default_rng(3)
        x_T = initial_noise(rng, (n, *shape))
        return x_T, list(sampler(WITH_VARIANCE, x_T, rng, (20, 9, 2, 0), **options))

    (x_few, few), (x_many, many) = run(3), run(count)
    assert np.array_equal(x_few, x_many[:3])
    for p, q in zip(few, many, strict=True):
        assert np.array_equal(p.x, q.x[:3]) and np.array_equal(p.x0, q.x0[:3])


@pytest.mark.parametrize("oracle", [mixture1d(), Gaussian([0.1, 0.2], np.eye(2) / 9), FiniteData(np.eye(3))])
def test_a_sample_of_an_oracle_depends_on_the_batch_only_by_rounding(oracle):
    def run(n):
        rng = np.random.default_rng(3)
        x_T = initial_noise(rng, (n, oracle.dim), np.float64)
        return final(ddpm(Denoiser(oracle.network(PAPER), PAPER), x_T, rng, trailing(1000, 30)))

    assert run(3) == pytest.approx(run(5000)[:3], abs=1e-9)


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([(), (1,), (500,), (5000,), (64, 8)]))
def test_the_noise_of_a_smaller_batch_begins_that_of_a_larger_one(few, many, shape):
    few, many = sorted((few * 100, many * 100)) if shape in ((), (1,)) else sorted((few, many))
    a = NoiseSource(np.random.default_rng(5), (few, *shape), np.float32)
    b = NoiseSource(np.random.default_rng(5), (many, *shape), np.float32)
    for _ in range(3):
        assert np.array_equal(a(), b()[:few])


@pytest.mark.parametrize(
    ("shape", "block"),
    [((3, 5000), 1), ((10, 3000), 1), ((5000,), 4096), ((4097, 1), 4096), ((7, 2, 700), 2), ((2, 0), 4096)],
)
def test_each_block_of_samples_has_its_own_stream_of_one_child(shape, block):
    rng, again = np.random.default_rng(3), np.random.default_rng(3)
    got = NoiseSource(rng, shape, np.float32)()
    streams = again.spawn(1)[0].spawn(-(-shape[0] // block))
    drawn = [stream.standard_normal((block, *shape[1:]), np.float32) for stream in streams]
    assert np.array_equal(got, np.concatenate(drawn)[: shape[0]])
    assert rng.spawn(1)[0].random() == again.spawn(1)[0].random()


def test_noise_without_a_batch_axis_is_refused():
    with pytest.raises(ValueError, match=r"^expected a shape \(B, …\), a batch of samples, got \(\)$"):
        initial_noise(np.random.default_rng(0), ())


def test_noise_is_standard_normal_and_independent_across_calls_and_blocks():
    """400 000 numbers: five standard errors, a false alarm in about 1 of 600 000 seeds."""
    source = NoiseSource(np.random.default_rng(0), (50_000, 4), np.float64)
    first, second = source(), source()
    both = np.stack([first, second])
    assert abs(both.mean()) < 5 / np.sqrt(both.size)
    assert abs((both**2).mean() - 1) < 5 * np.sqrt(2 / both.size)
    assert abs((first * second).mean()) < 5 / np.sqrt(first.size)
    assert len(np.unique(both)) == both.size


def test_noise_is_independent_of_other_draws_from_the_generator():
    quiet, busy = np.random.default_rng(0), np.random.default_rng(0)
    busy.standard_normal(1000)
    before = busy.bit_generator.state
    assert np.array_equal(initial_noise(quiet, (5, 2)), initial_noise(busy, (5, 2)))
    assert busy.bit_generator.state == before


def test_successive_noises_differ_and_do_not_depend_on_earlier_sizes():
    one, other = np.random.default_rng(0), np.random.default_rng(0)
    a, b = initial_noise(one, (3, 1)), initial_noise(other, (9000, 1))
    after_a, after_b = initial_noise(one, (3, 1)), initial_noise(other, (3, 1))
    assert np.array_equal(a, b[:3]) and np.array_equal(after_a, after_b)
    assert not np.array_equal(a, after_a)


@every_sampler
def test_an_empty_batch_stays_empty(sampler, options):
    x_T = initial_noise(np.random.default_rng(0), (0, 4))
    assert final(sampler(WITH_VARIANCE, x_T, np.random.default_rng(0), **options)).shape == (0, 4)


@every_sampler
def test_yielded_arrays_may_be_kept_and_modified(sampler, options):
    x_T = initial_noise(np.random.default_rng(0), (4, 2))
    x_T.setflags(write=False)
    kept = list(sampler(WITH_VARIANCE, x_T, np.random.default_rng(1), **options))
    for state, expected in zip(
        sampler(WITH_VARIANCE, x_T, np.random.default_rng(1), **options), kept, strict=True
    ):
        assert np.array_equal(state.x, expected.x) and np.array_equal(state.x0, expected.x0)
        state.x[...] = np.nan
        state.x0[...] = np.nan
    arrays = [array for state in kept for array in (state.x, state.x0)]
    assert not any(np.shares_memory(a, b) for a, b in pairwise(arrays))


@every_sampler
def test_interleaved_and_threaded_samplers_are_independent(sampler, options):
    denoiser = WithVariance(Denoiser(mixture1d().network(SHORT), SHORT))
    x_T = {seed: initial_noise(np.random.default_rng(seed), (6, 1)) for seed in (1, 2)}

    def start(seed):
        return sampler(denoiser, x_T[seed], np.random.default_rng(seed), **options)

    alone = [final(start(1)), final(start(2))]
    assert not np.array_equal(*alone)
    for p, q in zip(start(1), start(2), strict=True):
        in_turns = p.x, q.x
    assert np.array_equal(in_turns, alone)

    results = {}
    threads = [threading.Thread(target=lambda s=s: results.update({s: final(start(s))})) for s in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert np.array_equal([results[1], results[2]], alone)


def test_at_zero_terminal_snr_v_and_x0_prediction_can_be_sampled():
    ended, data = schedules.zero_terminal_snr(PAPER), Gaussian([0.4], [[0.3]])
    x_T = initial_noise(np.random.default_rng(0), (5, 1), np.float64)
    for prediction in ("x0", "v"):
        denoiser = WithVariance(Denoiser(data.network(ended, prediction), ended, prediction))
        for sampler, options in EVERY:
            samples = final(sampler(denoiser, x_T, np.random.default_rng(0), trailing(1000, 50), **options))
            assert np.all(np.isfinite(samples)) and np.abs(samples - 0.4).max() < 3
    with pytest.raises(ValueError, match="predict v or x0"):
        next(ddim(Denoiser(data.network(ended), ended), x_T, np.random.default_rng(0)))


@every_sampler
def test_noise_is_drawn_once_for_each_stochastic_step(sampler, options, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        NoiseSource, "__call__", lambda self: drawn.append(1) or np.zeros(self.shape, self.dtype)
    )
    final(sampler(WITH_VARIANCE, np.ones((2, 1)), np.random.default_rng(0), (20, 9, 2, 0), **options))
    # predictor and corrector draw one each; churn draws before each step but the first, since no time lies above T
    expected = 0 if (sampler, options) in QUIET else 4 if sampler is predictor_corrector else 2
    assert len(drawn) == expected


def test_final_is_x_of_the_last_state():
    states = [State(t, np.full(2, t), np.full(2, -5)) for t in (3, 1)]
    assert np.array_equal(final(iter(states)), [1, 1])


def test_final_refuses_an_exhausted_sampler():
    states = ddim(WITH_VARIANCE, np.ones((1, 1)), np.random.default_rng(0))
    final(states)
    expected = "^expected a sampler with steps left, got one that is exhausted: call it again$"
    with pytest.raises(ValueError, match=expected):
        final(states)


def test_the_samplers_by_name():
    names = ["ddpm", "ddim", "plms", "dpmpp_2m", "heun", "unipc", "pc"]
    functions = [ddpm, ddim, plms, dpmpp_2m, heun, unipc, predictor_corrector]
    assert {name: record.function for name, record in SAMPLERS.items()} == dict(
        zip(names, functions, strict=True)
    )


@pytest.mark.parametrize("eta", [-0.1, np.nan])
def test_a_negative_eta_is_refused(eta):
    with pytest.raises(ValueError, match="expected eta of 0"):
        next(ddim(WITH_VARIANCE, np.ones((1, 1)), np.random.default_rng(0), eta=eta))


def test_an_eta_that_needs_too_much_noise_is_refused_with_the_largest_possible():
    times = (20, 10, 0)
    limit = np.sqrt(SHORT.one_minus_alpha_bar[20] / SHORT.kernel(10, 20)[1])
    at_the_limit = ddim_steps(SHORT, times, limit * (1 - 1e-12))[0]
    assert at_the_limit.eps == pytest.approx(0, abs=1e-5)
    assert at_the_limit.sigma**2 == pytest.approx(SHORT.one_minus_alpha_bar[10])
    with pytest.raises(ValueError, match=rf"step 20 → 10: expected at most {limit:.4g}"):
        ddim_steps(SHORT, times, limit * (1 + 1e-9))
    with pytest.raises(ValueError, match="step 2 → 1"):
        ddim_steps(SHORT, (2, 1, 0), 1e6)
    assert ddim_steps(SHORT, (20, 0), 1e6)[0].sigma == 0  # a step to clean data has no noise


def test_an_unknown_variance_is_refused():
    with pytest.raises(ValueError, match="expected variance to be"):
        next(ddpm(WITH_VARIANCE, np.ones((1, 1)), np.random.default_rng(0), variance="fixed"))


BAD_TIMES = [
    (21, 0),
    (20.5, 0),
    (5, 5, 0),
    (5.5, 5.5, 0),
    (5.5, 0.5, 0),
    (5, 1),
    (5.5, 1),
    (0,),
    (),
    (np.nan, 0),
    (5, None, 0),
    ("5.5", "a", 0),
    (-1, -2),
]


@every_sampler
@pytest.mark.parametrize("times", BAD_TIMES, ids=str)
def test_bad_times_are_refused(sampler, options, times):
    with pytest.raises(ValueError, match="expected") as caught:
        next(sampler(WITH_VARIANCE, np.ones((1, 1)), np.random.default_rng(0), times, **options))
    assert "\n" not in str(caught.value)


@every_sampler
def test_real_times_are_accepted_by_ode_solvers_only(sampler, options):
    def run(times):
        return list(sampler(WITH_VARIANCE, np.ones((1, 1)), np.random.default_rng(0), times, **options))

    if sampler in WHOLE_TIMES_ONLY:
        with pytest.raises(ValueError, match="integer"):
            run((15.5, 3, 0))
    else:
        assert [state.t for state in run((15.5, 3, 0))] == [3, 0]
        for p, q in zip(run((15 + 1e-9, 3.0, 0)), run((15, 3, 0)), strict=True):
            assert p.x == pytest.approx(q.x, rel=1e-6)


@pytest.mark.parametrize(("sampler", "options"), QUIET)
def test_a_network_with_an_embedding_table_refuses_real_times(sampler, options):
    net = nn.MLP(np.random.default_rng(0), dim=1, width=8, depth=1, T=20)
    with pytest.raises(ValueError, match="only the integer times"):
        next(
            sampler(Denoiser(net, SHORT), np.ones((1, 1)), np.random.default_rng(0), (15.5, 3, 0), **options)
        )


@pytest.mark.parametrize(
    ("sampler", "options", "message"),
    [
        (ddim, {"eta": 0.5, "sigma_hat": True}, "sigma_hat requires eta = 1"),
        (heun, {"churn": -1.0}, "expected churn"),
        (heun, {"churn": np.nan}, "expected churn"),
        (heun, {"churn": np.inf}, "expected churn"),
        (unipc, {"order": 0}, "expected order 1, 2 or 3"),
        (unipc, {"order": 4}, "expected order 1, 2 or 3"),
        (predictor_corrector, {"corrections": -1}, "expected corrections"),
        (predictor_corrector, {"snr": 0.0}, "snr > 0"),
        (predictor_corrector, {"snr": np.nan}, "snr > 0"),
        (predictor_corrector, {"snr": np.inf}, "snr > 0"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_an_option_out_of_range_is_refused(sampler, options, message):
    with pytest.raises(ValueError, match=message):
        next(sampler(WITH_VARIANCE, np.ones((1, 1)), np.random.default_rng(0), **options))


def test_a_variance_that_was_not_learned_is_refused():
    with pytest.raises(ValueError) as raised:
        next(
            ddpm(Denoiser(shrink, SHORT), np.ones((1, 1)), np.random.default_rng(0), None, variance="learned")
        )
    expected = 'the network of this denoiser has no learned variance: use "small" or "large"'
    assert str(raised.value) == expected


@pytest.mark.parametrize(("sampler", "options"), NOISY)
def test_only_a_generator_and_float_data_are_accepted(sampler, options):
    denoiser = WITH_VARIANCE
    with pytest.raises(TypeError, match=r"numpy.random.Generator, got RandomState"):
        next(sampler(denoiser, np.ones((1, 1)), np.random.RandomState(0), **options))
    with pytest.raises(TypeError, match="float32 or float64, got int64"):
        next(sampler(denoiser, np.ones((1, 1), int), np.random.default_rng(0), **options))
    with pytest.raises(ValueError, match="a batch of samples"):
        next(sampler(denoiser, np.array(1.0), np.random.default_rng(0), **options))


# ---- relations between samplers


def trajectory(sampler, rng, *arguments, **options):
    x_T = initial_noise(np.random.default_rng(0), (5, 2), np.float64)
    denoiser = WithVariance(Denoiser(Gaussian([0.1, 0.2], [[0.5, 0.1], [0.1, 0.2]]).network(PAPER), PAPER))
    return [state.x for state in sampler(denoiser, x_T, np.random.default_rng(rng), *arguments, **options)]


@pytest.mark.parametrize("times", [trailing(1000, 10), quadratic(1000, 30)])
def test_sigma_hat_is_the_large_variance(times):
    one, other = (
        trajectory(ddim, 1, times, eta=1.0, sigma_hat=True),
        trajectory(ddpm, 1, times, variance="large"),
    )
    assert np.array(one) == pytest.approx(np.array(other), abs=1e-12)


@pytest.mark.parametrize("fraction", [-0.5, 0.0, 0.4, 1.0, 1.5])
@pytest.mark.parametrize("times", [None, trailing(1000, 10), (1000, 999, 997, 300, 298, 297, 0)])
def test_a_learned_variance_lies_between_small_and_large(fraction, times, monkeypatch):
    """It is "small" at one end, "large" at the other, and log-linear between them, for long steps too.

    Beyond the ends a single step extrapolates, and a longer one takes the nearer end.
    """
    monkeypatch.setattr(NoiseSource, "__call__", lambda self: np.ones(self.shape, self.dtype))
    denoiser = WithVariance(Denoiser(lambda x, t: 0 * x, PAPER, "x0"), fraction)
    plans = [ddpm_steps(PAPER, times, variance) for variance in ("small", "large")]
    states = ddpm(denoiser, np.zeros((1, 1)), np.random.default_rng(0), times, "learned")
    x = 0.0
    for state, small, large in zip(states, *plans, strict=True):
        exponent = fraction if small.s == small.t - 1 else np.clip(fraction, 0, 1)
        expected = small.sigma ** (1 - exponent) * large.sigma**exponent if small.s > 0 else 0.0
        assert state.x.item() - small.x * x == pytest.approx(expected, rel=1e-9, abs=1e-15)
        x = state.x.item()


def test_dpm_solvers_sde_with_constant_x0_is_ddpm_with_the_small_variance():
    """The coefficients of every step, and the samples of the first step and of a single one."""
    for times in (trailing(1000, 10), quadratic(1000, 30), None):
        for (step, _), of_ddpm in zip(
            dpm_steps(PAPER, times, sde=True), ddpm_steps(PAPER, times), strict=True
        ):
            assert step == pytest.approx(of_ddpm, rel=1e-9, abs=1e-15)
    assert np.array_equal(trajectory(dpmpp_2m, 1, (1000, 0), sde=True), trajectory(ddpm, 1, (1000, 0)))
    one, other = (
        trajectory(sampler, 1, (900, 400, 0), **options)[0]
        for sampler, options in ((dpmpp_2m, {"sde": True}), (ddpm, {}))
    )
    assert one == pytest.approx(other, rel=1e-9)


def test_dpm_solver_solves_the_ode_by_default():
    assert dpm_steps(PAPER, (900, 400, 0)) == dpm_steps(PAPER, (900, 400, 0), sde=False)
    assert all(step.sigma == 0 for step, _ in dpm_steps(PAPER, (900, 400, 0)))


@pytest.mark.parametrize("sampler", [ddim, plms, dpmpp_2m, heun, unipc])
def test_a_single_step_is_that_of_ddim(sampler):
    assert np.allclose(trajectory(sampler, 0, (1000, 0)), trajectory(ddim, 0, (1000, 0)), rtol=1e-12)


@pytest.mark.parametrize("sampler", [plms, dpmpp_2m, heun, unipc])
def test_a_step_from_pure_noise_is_that_of_ddim(sampler):
    ended, data = schedules.zero_terminal_snr(PAPER), Gaussian([0.4], [[0.3]])
    denoiser = Denoiser(data.network(ended, "v"), ended, "v")
    x_T = initial_noise(np.random.default_rng(0), (5, 1), np.float64)
    one, other = (
        next(s(denoiser, x_T, np.random.default_rng(0), (1000, 600, 100, 0))) for s in (sampler, ddim)
    )
    assert one.x == pytest.approx(other.x, rel=1e-12)


@pytest.mark.parametrize(
    ("sampler", "evaluations"),
    [(ddpm, 6), (ddim, 6), (plms, 6), (dpmpp_2m, 6), (unipc, 6), (heun, 11), (predictor_corrector, 11)],
)
def test_the_nfe_of_six_steps(sampler, evaluations):
    calls = []
    denoiser = Denoiser(lambda x, t: calls.append(1) or x / 3, SHORT)
    final(sampler(denoiser, np.ones((1, 1)), np.random.default_rng(0), (20, 15, 10, 6, 3, 1, 0)))
    assert len(calls) == evaluations


def test_plms_integrates_the_polynomial_through_up_to_four_previous_eps():
    times, cubic = trailing(1000, 8), np.polynomial.Polynomial([0.3, -0.2, 0.05, 0.02])
    denoiser = Denoiser(lambda x, t: np.full_like(x, cubic(times.index(t[0]))), PAPER)
    x = np.ones((1, 1))
    for k, state in enumerate(plms(denoiser, x, None, times)):
        (t, s), last = times[k : k + 2], np.arange(max(0, k - 3), k + 1)
        through = np.polynomial.Polynomial.fit(last, cubic(last), len(last) - 1, domain=[0, 8]).integ()
        mean = through(k + 1) - through(k)
        if s > 0:
            x0 = (x - np.sqrt(PAPER.one_minus_alpha_bar[t]) * mean) / np.sqrt(PAPER.alpha_bar[t])
            expected = np.sqrt(PAPER.alpha_bar[s]) * x0 + np.sqrt(PAPER.one_minus_alpha_bar[s]) * mean
            assert state.x == pytest.approx(expected, rel=1e-10)
        x = state.x


def test_unip_1_is_ddim_and_unip_2_is_dpm_solver_2m():
    times = quadratic(1000, 30)
    for order, same in ((1, ddim), (2, dpmpp_2m)):
        unip = trajectory(unipc, 0, times, order=order, corrector=False)
        assert np.array(unip) == pytest.approx(np.array(trajectory(same, 0, times)), abs=1e-11)
    assert np.array_equal(trajectory(unipc, 0, times), trajectory(unipc, 0, times, order=2))


def test_without_corrections_the_predictor_is_ddpm():
    assert np.array_equal(
        trajectory(predictor_corrector, 1, (900, 200, 0), corrections=0),
        trajectory(ddpm, 1, (900, 200, 0), variance="large"),
    )


def test_a_correction_follows_the_score_and_adds_noise(monkeypatch):
    """Where x̂_0 is 0, ε̂ is x/√(1−ᾱ), and a correction takes 2r² of x away."""
    monkeypatch.setattr(NoiseSource, "__call__", lambda self: np.ones(self.shape, self.dtype))
    denoiser = Denoiser(lambda x, t: 0 * x, PAPER, "x0")
    first = next(
        predictor_corrector(denoiser, np.zeros((1, 1)), np.random.default_rng(0), (900, 400, 0), 1, 0.3)
    )
    predicted = ddpm_steps(PAPER, (900, 400, 0), "large")[0].sigma
    expected = predicted * (1 - 2 * 0.3**2) + 2 * 0.3 * np.sqrt(PAPER.one_minus_alpha_bar[400])
    assert first.x.item() == pytest.approx(expected, rel=1e-12)


def test_the_default_is_one_correction_at_each_time():
    plan = [[(step.t, step.s) for step in at_a_time] for at_a_time in pc_steps(PAPER, (900, 400, 0))]
    assert plan == [[(900, 400), (400, 400)], [(400, 0)]]


def test_churn_adds_noise(monkeypatch):
    """Where x̂_0 is 0 x_s = x_t √((1−ᾱ_s)/(1−ᾱ_t)), for the Euler step and for its correction alike."""
    monkeypatch.setattr(NoiseSource, "__call__", lambda self: np.ones(self.shape, self.dtype))
    calls = []
    denoiser = Denoiser(lambda x, t: calls.append(t[0]) or 0 * x, PAPER, "x0")
    first = next(heun(denoiser, np.zeros((1, 1)), np.random.default_rng(0), (500, 100, 0), 0.6))
    added = PAPER.kernel(500, calls[0])[1]
    kept = PAPER.one_minus_alpha_bar[100] / PAPER.one_minus_alpha_bar[calls[0]]
    assert first.x.item() == pytest.approx(np.sqrt(kept * added), rel=1e-12)


def test_churn_is_limited_to_a_gamma_of_sqrt_2_minus_1_and_integer_times(monkeypatch):
    calls = []

    class Recording(WithVariance):
        def __call__(self, x, t):
            calls.append(t)
            return super().__call__(x, t)

    for churn, gamma in ((0.6, 0.3), (1e9, np.sqrt(2) - 1)):
        calls.clear()
        list(
            heun(
                Recording(Denoiser(shrink, PAPER)),
                np.ones((1, 1)),
                np.random.default_rng(0),
                (500, 1, 0),
                churn,
            )
        )
        above = calls[0]
        sigma = 1 / np.sqrt(PAPER.snr)
        target = (1 + gamma) * sigma[500]
        assert isinstance(above, int)
        assert above == np.abs(sigma - target).argmin()
    ended = schedules.zero_terminal_snr(PAPER)
    states = heun(
        Recording(Denoiser(shrink, ended, "x0")),
        np.ones((1, 1)),
        np.random.default_rng(0),
        (1000, 999, 998, 0),
        9.0,
    )
    calls.clear()
    assert np.isfinite(final(states)).all() and calls == [1000, 999, 998, 998]
    at_T = heun(WITH_VARIANCE, np.ones((1, 1)), np.random.default_rng(0), (20, 0), 9.0)
    assert np.array_equal(
        final(at_T), final(ddim(WITH_VARIANCE, np.ones((1, 1)), np.random.default_rng(0), (20, 0)))
    )


# ---- from data to noise


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_inversion_yields_the_times_reached_and_shares_no_memory(dtype):
    x_0 = np.random.default_rng(0).standard_normal((3, 2)).astype(dtype)
    x_0.setflags(write=False)
    kept = list(invert(WITH_VARIANCE, x_0, (20, 7, 1, 0)))
    assert [state.t for state in kept] == [1, 7, 20]
    for state, expected in zip(invert(WITH_VARIANCE, x_0, (20, 7, 1, 0)), kept, strict=True):
        assert state.x.dtype == state.x0.dtype == dtype
        assert np.array_equal(state.x, expected.x) and np.array_equal(state.x0, expected.x0)
        state.x[...] = np.nan
        state.x0[...] = np.nan
    assert np.array_equal(final(invert(WITH_VARIANCE, x_0[:1])), final(invert(WITH_VARIANCE, x_0))[:1])


def test_inversion_evaluates_at_the_start_of_each_step_and_first_on_clean_data():
    calls = []

    class Recording(WithVariance):
        def __call__(self, x, t):
            calls.append((t, x.copy()))
            return super().__call__(x, t)

    x_0 = np.ones((1, 1))
    states = list(invert(Recording(Denoiser(shrink, SHORT)), x_0, (20, 7, 1, 0)))
    assert [t for t, _ in calls] == [1, 1, 7]
    assert np.array_equal(calls[0][1], x_0) and np.array_equal(calls[1][1], states[0].x)


def test_the_first_step_of_inversion_adds_the_predicted_noise_to_the_data():
    x_0 = np.array([[0.7], [-2.0]])
    first = next(invert(WITH_VARIANCE, x_0, (20, 7, 0)))
    expected = np.sqrt(SHORT.alpha_bar[7]) * x_0 + np.sqrt(SHORT.one_minus_alpha_bar[7]) * shrink(x_0, 7)
    assert first.x == pytest.approx(expected, rel=1e-12) and np.array_equal(first.x0, x_0)


def test_inversion_refuses_bad_times():
    for times in ((21, 0), (0, 5, 20), (5, 1)):
        with pytest.raises(ValueError, match="expected"):
            next(invert(WITH_VARIANCE, np.ones((1, 1)), times))
