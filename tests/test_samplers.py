import threading
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidiff import schedules
from minidiff.denoiser import Denoiser
from minidiff.oracles import FiniteData, Gaussian, mixture1d
from minidiff.samplers import SAMPLERS, State, ddim, ddpm, final, initial_noise
from minidiff.samplers.ancestral import steps as ddpm_steps
from minidiff.samplers.ddim import steps as ddim_steps
from minidiff.samplers.randomness import NoiseSource
from minidiff.samplers.timesteps import leading, quadratic, trailing

PAPER = schedules.linear()
SHORT = schedules.linear(20, 0.01, 0.4)
NOISY = [
    (ddpm, {"variance": "small"}),
    (ddpm, {"variance": "large"}),
    (ddim, {"eta": 0.6}),
    (ddim, {"eta": 1.0}),
]
EVERY = [*NOISY, (ddim, {})]
every_sampler = pytest.mark.parametrize(("sampler", "options"), EVERY)


def shrink(x, t):
    return x / 3


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


@pytest.mark.parametrize(("t", "s", "variance"), [(420, 400, 0.14772), (980, 960, 0.32461)])
def test_golden_variances_of_ddim_at_eta_1(t, s, variance):
    step = ddim_steps(PAPER, (t + 1, s + 1, 0), eta=1.0)[0]
    assert step.sigma**2 == pytest.approx(variance, abs=1e-5)


def test_clipping_with_eps_derived_again_by_a_case_of_our_own():
    """One step by hand in which clipping bites: x̂_0 = 0.8/√0.25 → 1, and ε̂ = (1 − √0.25·1)/√0.75."""
    schedule = schedules.from_alpha_bar([0.64, 0.25])
    denoiser = Denoiser(lambda x, t: np.full_like(x, 0.2 / 0.75**0.5), schedule, clip=(-1, 1))
    (first, _) = ddim(denoiser, np.ones((1, 1)), np.random.default_rng(0))
    assert first.x0.item() == 1
    assert first.x.item() == pytest.approx(0.8 + 0.6 * 0.5 / 0.75**0.5, rel=1e-14)


@every_sampler
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_states_name_the_time_reached_and_end_at_0_in_the_dtype_of_x(sampler, options, dtype):
    denoiser = Denoiser(shrink, SHORT)
    x_T = initial_noise(np.random.default_rng(0), (3, 2, 2, 1), dtype)
    states = list(sampler(denoiser, x_T, np.random.default_rng(1), (20, 11, 4, 0), **options))
    assert [state.t for state in states] == [11, 4, 0]
    for state in states:
        assert state.x.shape == state.x0.shape == x_T.shape
        assert state.x.dtype == state.x0.dtype == dtype
    assert np.array_equal(states[-1].x, states[-1].x0)  # the last step lands on x̂_0


@every_sampler
def test_without_a_list_every_time_is_visited(sampler, options):
    states = sampler(Denoiser(shrink, SHORT), np.ones((2, 1)), np.random.default_rng(0), **options)
    assert [state.t for state in states] == list(range(19, -1, -1))


@pytest.mark.parametrize(
    "plan", [ddpm_steps, lambda *a: ddpm_steps(*a, "large"), lambda *a: ddim_steps(*a, 0.7)]
)
def test_a_sub_sequence_of_a_schedule_is_the_respaced_schedule(plan):
    times = quadratic(1000, 23)
    respaced = schedules.respaced(PAPER, times)
    for here, there in zip(plan(PAPER, times), plan(respaced, None), strict=True):
        assert here[2:] == pytest.approx(there[2:], rel=1e-12)
        assert (here.t, here.s) == (respaced.times[there.t], respaced.times[there.s])


@pytest.mark.parametrize(("sampler", "options"), NOISY)
def test_the_respaced_schedule_asks_the_network_the_same(sampler, options):
    times, data = trailing(1000, 10), mixture1d()
    x_T = initial_noise(np.random.default_rng(0), (4, 1), np.float64)
    one = sampler(Denoiser(data.network(PAPER), PAPER), x_T, np.random.default_rng(1), times, **options)
    respaced = Denoiser(data.network(PAPER), schedules.respaced(PAPER, times))
    other = sampler(respaced, x_T, np.random.default_rng(1), **options)
    assert final(one) == pytest.approx(final(other), abs=1e-9)


@every_sampler
@pytest.mark.parametrize("shape", [(1,), (2,), (8, 8, 1), (70, 70)])
def test_three_samples_drawn_alone_are_the_first_three_of_a_thousand_at_every_step(sampler, options, shape):
    count = 1000 if len(shape) < 2 else 80

    def run(n):
        rng = np.random.default_rng(3)
        x_T = initial_noise(rng, (n, *shape))
        return x_T, list(sampler(Denoiser(shrink, SHORT), x_T, rng, (20, 9, 2, 0), **options))

    (x_few, few), (x_many, many) = run(3), run(count)
    assert np.array_equal(x_few, x_many[:3])
    for p, q in zip(few, many, strict=True):
        assert np.array_equal(p.x, q.x[:3]) and np.array_equal(p.x0, q.x0[:3])


@pytest.mark.parametrize("oracle", [mixture1d(), Gaussian([0.1, 0.2], np.eye(2) / 9), FiniteData(np.eye(3))])
def test_the_same_with_an_oracle_for_a_network_up_to_its_rounding(oracle):
    def run(n):
        rng = np.random.default_rng(3)
        x_T = initial_noise(rng, (n, oracle.dim), np.float64)
        return final(ddpm(Denoiser(oracle.network(PAPER), PAPER), x_T, rng, trailing(1000, 30)))

    assert run(3) == pytest.approx(run(5000)[:3], abs=1e-9)


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([(), (1,), (500,), (5000,), (64, 8)]))
def test_noise_of_a_smaller_batch_is_the_start_of_that_of_a_larger(few, many, shape):
    few, many = sorted((few * 100, many * 100)) if shape in ((), (1,)) else sorted((few, many))
    a = NoiseSource(np.random.default_rng(5), (few, *shape), np.float32)
    b = NoiseSource(np.random.default_rng(5), (many, *shape), np.float32)
    for _ in range(3):
        assert np.array_equal(a(), b()[:few])


@pytest.mark.parametrize(
    ("shape", "block"),
    [((3, 5000), 1), ((10, 3000), 1), ((5000,), 4096), ((4097, 1), 4096), ((7, 2, 700), 2), ((2, 0), 4096)],
)
def test_a_block_of_samples_has_a_stream_of_its_own_from_the_one_child_that_is_taken(shape, block):
    rng, again = np.random.default_rng(3), np.random.default_rng(3)
    got = NoiseSource(rng, shape, np.float32)()
    streams = again.spawn(1)[0].spawn(-(-shape[0] // block))
    drawn = [stream.standard_normal((block, *shape[1:]), np.float32) for stream in streams]
    assert np.array_equal(got, np.concatenate(drawn)[: shape[0]])
    assert rng.spawn(1)[0].random() == again.spawn(1)[0].random()


def test_noise_for_no_batch_is_refused():
    with pytest.raises(ValueError, match=r"^expected a shape \(B, …\), a batch of samples, got \(\)$"):
        initial_noise(np.random.default_rng(0), ())


def test_noise_is_standard_normal_and_new_at_each_call_and_in_each_block():
    """400 000 numbers: five standard errors, a false alarm in about 1 of 600 000 seeds."""
    source = NoiseSource(np.random.default_rng(0), (50_000, 4), np.float64)
    first, second = source(), source()
    both = np.stack([first, second])
    assert abs(both.mean()) < 5 / np.sqrt(both.size)
    assert abs((both**2).mean() - 1) < 5 * np.sqrt(2 / both.size)
    assert abs((first * second).mean()) < 5 / np.sqrt(first.size)
    assert len(np.unique(both)) == both.size


def test_noise_does_not_depend_on_what_else_is_drawn_from_the_generator():
    quiet, busy = np.random.default_rng(0), np.random.default_rng(0)
    busy.standard_normal(1000)
    before = busy.bit_generator.state
    assert np.array_equal(initial_noise(quiet, (5, 2)), initial_noise(busy, (5, 2)))
    assert busy.bit_generator.state == before


def test_each_use_of_a_generator_is_new_and_how_much_the_one_before_drew_changes_nothing():
    one, other = np.random.default_rng(0), np.random.default_rng(0)
    a, b = initial_noise(one, (3, 1)), initial_noise(other, (9000, 1))
    after_a, after_b = initial_noise(one, (3, 1)), initial_noise(other, (3, 1))
    assert np.array_equal(a, b[:3]) and np.array_equal(after_a, after_b)
    assert not np.array_equal(a, after_a)


@every_sampler
def test_an_empty_batch_stays_empty(sampler, options):
    x_T = initial_noise(np.random.default_rng(0), (0, 4))
    assert final(sampler(Denoiser(shrink, SHORT), x_T, np.random.default_rng(0), **options)).shape == (0, 4)


@every_sampler
def test_what_was_yielded_is_the_receivers_to_keep_and_to_change(sampler, options):
    x_T = initial_noise(np.random.default_rng(0), (4, 2))
    x_T.setflags(write=False)
    kept = list(sampler(Denoiser(shrink, SHORT), x_T, np.random.default_rng(1), **options))
    for state, expected in zip(
        sampler(Denoiser(shrink, SHORT), x_T, np.random.default_rng(1), **options), kept, strict=True
    ):
        assert np.array_equal(state.x, expected.x) and np.array_equal(state.x0, expected.x0)
        state.x[...] = np.nan
        state.x0[...] = np.nan
    arrays = [array for state in kept for array in (state.x, state.x0)]
    assert not any(np.shares_memory(a, b) for a, b in pairwise(arrays))


@pytest.mark.parametrize(("sampler", "options"), NOISY)
def test_two_samplers_in_turns_or_in_two_threads_do_not_disturb_each_other(sampler, options):
    denoiser = Denoiser(mixture1d().network(SHORT), SHORT)
    x_T = initial_noise(np.random.default_rng(0), (6, 1))

    def start(seed):
        return sampler(denoiser, x_T, np.random.default_rng(seed), **options)

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


def test_a_schedule_that_ends_in_pure_noise_is_sampled_by_v_and_by_x0():
    ended, data = schedules.zero_terminal_snr(PAPER), Gaussian([0.4], [[0.3]])
    x_T = initial_noise(np.random.default_rng(0), (5, 1), np.float64)
    for said in ("x0", "v"):
        denoiser = Denoiser(data.network(ended, said), ended, said)
        for sampler, options in EVERY:
            samples = final(sampler(denoiser, x_T, np.random.default_rng(0), trailing(1000, 50), **options))
            assert np.all(np.isfinite(samples)) and np.abs(samples - 0.4).max() < 3
    with pytest.raises(ValueError, match="predict v or x0"):
        next(ddim(Denoiser(data.network(ended), ended), x_T, np.random.default_rng(0)))


@every_sampler
def test_noise_is_drawn_once_for_each_step_that_has_any(sampler, options, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        NoiseSource, "__call__", lambda self: drawn.append(1) or np.zeros(self.shape, self.dtype)
    )
    final(
        sampler(Denoiser(shrink, SHORT), np.ones((2, 1)), np.random.default_rng(0), (20, 9, 2, 0), **options)
    )
    assert len(drawn) == (0 if sampler is ddim and not options else 2)


def test_final_is_x_of_the_last_state():
    states = [State(t, np.full(2, t), np.full(2, -5)) for t in (3, 1)]
    assert np.array_equal(final(iter(states)), [1, 1])


def test_final_wants_a_sampler_that_has_steps_left():
    states = ddim(Denoiser(shrink, SHORT), np.ones((1, 1)), np.random.default_rng(0))
    final(states)
    expected = "^expected a sampler that has steps left, got one that is already at its end: make a new one$"
    with pytest.raises(ValueError, match=expected):
        final(states)


def test_the_samplers_by_name():
    assert list(SAMPLERS.items()) == [("ddpm", ddpm), ("ddim", ddim)]


@pytest.mark.parametrize("eta", [-0.1, np.nan])
def test_a_negative_eta_is_refused(eta):
    with pytest.raises(ValueError, match="expected eta of 0"):
        next(ddim(Denoiser(shrink, SHORT), np.ones((1, 1)), np.random.default_rng(0), eta=eta))


def test_an_eta_that_asks_for_more_noise_than_there_is_is_refused_with_the_largest_there_may_be():
    times = (20, 10, 0)
    limit = np.sqrt(SHORT.one_minus_alpha_bar[20] / SHORT.kernel(10, 20)[1])
    at_the_limit = ddim_steps(SHORT, times, limit * (1 - 1e-12))[0]
    assert at_the_limit.eps == pytest.approx(0, abs=1e-5)
    assert at_the_limit.sigma**2 == pytest.approx(SHORT.one_minus_alpha_bar[10])
    with pytest.raises(ValueError, match=rf"step 20 → 10: at most {limit:.4g}"):
        ddim_steps(SHORT, times, limit * (1 + 1e-9))
    with pytest.raises(ValueError, match="step 2 → 1"):
        ddim_steps(SHORT, (2, 1, 0), 1e6)
    assert ddim_steps(SHORT, (20, 0), 1e6)[0].sigma == 0  # to clean data there is no noise to ask for


def test_a_variance_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="expected variance to be"):
        next(ddpm(Denoiser(shrink, SHORT), np.ones((1, 1)), np.random.default_rng(0), variance="fixed"))


@every_sampler
@pytest.mark.parametrize("times", [(21, 0), (5, 5, 0), (5, 1), (2.5, 0)])
def test_bad_times_are_refused(sampler, options, times):
    with pytest.raises(ValueError, match="expected"):
        next(sampler(Denoiser(shrink, SHORT), np.ones((1, 1)), np.random.default_rng(0), times, **options))


@every_sampler
def test_only_a_generator_and_float_data_are_taken(sampler, options):
    denoiser = Denoiser(shrink, SHORT)
    with pytest.raises(TypeError, match=r"numpy.random.Generator, got RandomState"):
        next(sampler(denoiser, np.ones((1, 1)), np.random.RandomState(0), **options))
    with pytest.raises(TypeError, match="float32 or float64, got int64"):
        next(sampler(denoiser, np.ones((1, 1), int), np.random.default_rng(0), **options))
    with pytest.raises(ValueError, match="a batch of samples"):
        next(sampler(denoiser, np.array(1.0), np.random.default_rng(0), **options))
