"""Sampling by name in batches: the samples do not depend on the batches."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from minidiff import guidance, nn, samplers, schedules
from minidiff.diffusion.denoiser import Denoiser
from minidiff.diffusion.generation import Recipe, for_nfe, generate, trajectory
from minidiff.diffusion.oracles import Gaussian

SCHEDULE = schedules.linear(8, 0.05, 0.6)
GAUSSIAN = Gaussian(np.array([1.0, -0.5]), np.array([[0.25, 0.1], [0.1, 0.16]]))
DENOISER = Denoiser(GAUSSIAN.network(SCHEDULE), SCHEDULE)
PLAIN = Denoiser(lambda x, t: 0.4 * x, SCHEDULE)  # its output cannot depend on the size of a batch
RECIPES = [
    Recipe(),
    Recipe("ddim", 3, "trailing", {"eta": 1.0}),
    Recipe("ddpm"),
    Recipe("ddpm", 4, "linspace"),
    Recipe("plms"),
    Recipe("dpmpp_2m", 5, options={"sde": True}),
    Recipe("heun", 4, "karras", {"churn": 1.0}),
    Recipe("unipc", options={"order": 3}),
    Recipe("pc", 4, options={"corrections": 2, "snr": 0.1}),
]


def rng(seed=0):
    return np.random.default_rng(seed)


# ---- recipes


def test_the_defaults_are_all_times_for_ddpm_and_50_quadratic_ones_for_ddim():
    paper, short = schedules.linear(), schedules.linear(20)
    assert Recipe("ddpm").times(paper) == tuple(range(1000, -1, -1))
    assert Recipe().times(paper) == Recipe("ddim").times(paper) == samplers.spaced(paper, "quadratic", 50)
    for name in samplers.SAMPLERS:
        assert Recipe(name).times(short) == tuple(range(20, -1, -1))


@pytest.mark.parametrize("spacing", samplers.SPACINGS)
@pytest.mark.parametrize("sampler", samplers.SAMPLERS)
def test_steps_and_spacing_are_the_requested_ones(sampler, spacing):
    schedule = schedules.linear(90, 1e-3, 0.2)
    assert Recipe(sampler, 7, spacing).times(schedule) == samplers.spaced(schedule, spacing, 7)


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_the_nfe_of_a_recipe_are_known_beforehand(recipe):
    calls = []
    denoiser = Denoiser(lambda x, t: calls.append(1) or 0.4 * x, SCHEDULE)
    samplers.final(recipe.states(denoiser, np.ones((2, 1)), rng()))
    assert recipe.nfe(SCHEDULE) == len(calls)


@pytest.mark.parametrize("name", samplers.SAMPLERS)
@pytest.mark.parametrize("nfe", [1, 2, 5, 8, 30])
def test_a_recipe_for_given_nfe_has_the_most_steps_possible(name, nfe):
    recipe = for_nfe(nfe, SCHEDULE, name, spacing="trailing")
    assert (recipe.sampler, recipe.spacing) == (name, "trailing")
    assert recipe.nfe(SCHEDULE) <= nfe
    if recipe.steps < 8:
        assert Recipe(name, recipe.steps + 1).nfe(SCHEDULE) > nfe


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sampler": "euler"}, "ddpm, ddim.*'euler'"),
        ({"spacing": "even"}, "trailing.*'even'"),
        ({"sampler": "ddpm", "options": {"eta": 0.5}}, "ddpm has no option eta; it is an option of ddim$"),
        ({"sampler": "ddpm", "options": {"eta": 0.0}}, "eta"),
        ({"sampler": "heun", "options": {"order": 2}}, "heun has no option order; it is an option of unipc$"),
        ({"options": {"timesteps": (3, 0)}}, "has no option timesteps; it is an option of no sampler$"),
    ],
    ids=str,
)
def test_an_inconsistent_recipe_is_refused_at_construction(arguments, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**arguments)


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(steps=9),
        Recipe("ddpm", 9),
        Recipe(steps=0),
        Recipe(steps=-1),
        Recipe(options={"eta": -0.1}),
        Recipe(options={"eta": float("nan")}),
        Recipe(options={"eta": 50.0}),
        Recipe(options={"sigma_hat": True}),
        Recipe("unipc", options={"order": 4}),
        Recipe("heun", options={"churn": -1.0}),
        Recipe("pc", options={"snr": 0.0}),
        Recipe("ddpm", options={"variance": "medium"}),
        Recipe("unipc", 9),
    ],
    ids=str,
)
def test_a_recipe_that_does_not_fit_the_schedule_is_refused_before_sampling(recipe):
    with pytest.raises(ValueError) as caught:
        recipe.check(SCHEDULE)
    assert "\n" not in str(caught.value)


def test_a_recipe_that_fits_passes_the_check():
    for recipe in RECIPES:
        recipe.check(SCHEDULE)


# ---- many samples


def batches(shape, count):
    """The number of batches for `count` samples, from the progress reports."""
    totals = []
    generate(PLAIN, shape, count, rng(), Recipe(steps=1), lambda done, total: totals.append(total))
    return totals[-1]


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_the_first_n_samples_are_the_same_for_every_count(recipe):
    assert batches((2,), 4500) >= 3
    most = generate(PLAIN, (2,), 4500, rng(), recipe)
    assert most.shape == (4500, 2) and most.dtype == np.float32
    for count in (1, 5, 127, 128, 129, 2048, 2049, 4499):
        np.testing.assert_array_equal(generate(PLAIN, (2,), count, rng(), recipe), most[:count])


@pytest.mark.parametrize("side, most", [(4, 128), (64, 128), (65, 124), (128, 32), (256, 8), (800, 1)])
def test_of_large_images_there_are_fewer_in_a_batch(side, most):
    seen = []
    denoiser = Denoiser(lambda x, t: seen.append(len(x)) or x, SCHEDULE)
    generate(denoiser, (side, side, 3), min(most, 8) + 1, rng(), Recipe(steps=1))
    assert set(seen) == ({min(most, 8), 1} if most <= 8 else {9})
    assert (batches((3 * side * side,), most), batches((3 * side * side,), most + 1)) == (1, 2)


def u_net(**more):
    weights = rng(3)
    size = {"size": 4, "channels": 1, "width": 8, "multipliers": (1, 1), "depth": 1, "attention": (4,)}
    net = nn.UNet(weights, groups=4, **size, **more)
    for p in net.named_parameters().values():  # the last layers are zero at first and would hide everything
        p.data[...] += 0.2 * weights.standard_normal(p.shape)
    return net


@pytest.mark.compiled
@pytest.mark.parametrize("recipe", [Recipe(steps=2), Recipe("ddpm", 2)], ids=str)
def test_the_first_n_samples_of_a_u_net_are_the_same_for_every_count(recipe):
    denoiser = Denoiser(u_net(), SCHEDULE, clip=(-1, 1))
    assert batches((4, 4, 1), 258) > 1
    most = generate(denoiser, (4, 4, 1), 258, rng(), recipe)
    assert np.abs(most).max() <= 1 and most.std() > 0.1
    for count in (1, 3, 129):
        np.testing.assert_array_equal(generate(denoiser, (4, 4, 1), count, rng(), recipe), most[:count])


@pytest.mark.compiled
@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_two_threads_may_sample_from_one_network(recipe):
    """One is guided, so that their batch sizes differ; both reuse the memory of the network."""
    free = Denoiser(nn.frozen(u_net(classes=3)), SCHEDULE, clip=(-1, 1))
    denoisers = [free, guidance.classifier_free(free, 1, 3, 2.0)]
    alone = [generate(denoiser, (4, 4, 1), 5, rng(), recipe) for denoiser in denoisers]
    assert (alone[0] != alone[1]).any()
    with ThreadPoolExecutor(2) as threads:
        for _ in range(5):
            both = threads.map(lambda denoiser: generate(denoiser, (4, 4, 1), 5, rng(), recipe), denoisers)
            np.testing.assert_array_equal(list(both), alone)


def test_each_sample_may_have_its_own_class_in_any_batch():
    labels = np.arange(4500) % 7
    by_class = Denoiser(lambda x, t, label: label[:, None] + 0 * x, SCHEDULE, "x0", label=labels)
    assert batches((2,), 4500) >= 3
    assert np.array_equal(generate(by_class, (2,), 4500, rng(), Recipe()), np.stack([labels] * 2, axis=1))


def test_different_batches_and_different_seeds_give_different_samples():
    samples = generate(PLAIN, (2,), 4500, rng(), Recipe())
    assert len(np.unique(samples, axis=0)) == len(samples)
    assert (samples[:5] != generate(PLAIN, (2,), 5, rng(1), Recipe())).all()


@pytest.mark.parametrize("recipe", [Recipe("ddpm"), Recipe(options={"eta": 1.0})], ids=str)
def test_with_the_exact_eps_the_samples_have_the_mean_and_spread_of_the_data(recipe):
    """4000 samples: mean and spread have errors of about 1 % (1σ); 200 steps narrow the spread by another 2 %."""
    fine = schedules.linear(200, 5e-4, 0.06)
    recipe = Recipe(recipe.sampler, 200, "trailing", recipe.options)
    samples = generate(Denoiser(GAUSSIAN.network(fine), fine), (2,), 4000, rng(), recipe)
    np.testing.assert_allclose(samples.mean(axis=0), [1.0, -0.5], atol=0.04)
    np.testing.assert_allclose(samples.std(axis=0), [0.5, 0.4], rtol=0.08)


@pytest.mark.parametrize("count", [1, 4500])
def test_every_step_of_every_batch_is_reported(count):
    seen = []
    generate(PLAIN, (2,), count, rng(), Recipe(steps=4), lambda done, total: seen.append((done, total)))
    total = 4 * batches((2,), count)
    assert seen == [(done, total) for done in range(1, total + 1)]


@pytest.mark.parametrize("name", samplers.SAMPLERS)
def test_an_error_of_eps_where_there_is_no_signal_is_not_amplified(name):
    """ε̂ has an error of 1 %, as of a good network; at T of the cosine schedule that is 200 in x̂_0."""
    schedule = schedules.cosine(1000)
    exact = GAUSSIAN.network(schedule)
    denoiser = Denoiser(lambda x, t: exact(x, t) + 0.01, schedule)
    samples = generate(denoiser, (2,), 100, rng(), Recipe(name, 25))
    np.testing.assert_allclose(samples.mean(axis=0), [1.0, -0.5], atol=0.25)


def test_zero_samples_give_an_empty_array():
    assert generate(DENOISER, (2,), 0, rng(), Recipe()).shape == (0, 2)


# ---- trajectories


def test_a_trajectory_starts_with_noise_at_T_and_visits_the_times_of_the_recipe():
    recipe = Recipe("ddim", 3, "trailing")
    states = trajectory(DENOISER, (2,), 2000, rng(), recipe)
    assert tuple(state.t for state in states) == recipe.times(SCHEDULE)
    assert abs(states[0].x.mean()) < 0.1 and states[0].x.std() == pytest.approx(1, rel=0.05)
    assert not states[0].x0.any()
    np.testing.assert_allclose(states[-1].x.mean(axis=0), [1.0, -0.5], atol=0.1)
    assert all(state.x.shape == state.x0.shape == (2000, 2) for state in states)


def test_a_trajectory_is_the_same_for_the_same_seed():
    first, second = (trajectory(DENOISER, (2,), 4, rng(5), Recipe("ddpm")) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.x, b.x)
