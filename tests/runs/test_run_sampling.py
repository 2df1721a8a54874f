"""Sampling from a run: the right denoiser, in the data's own units, the same whatever the count."""

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_runs import MLP, UNET, create, train

from minidiff import guidance, nn
from minidiff.diffusion.denoiser import Denoiser
from minidiff.diffusion.generation import Recipe, generate
from minidiff.diffusion.guidance import Conditioning
from minidiff.runs import Run

RECIPES = [Recipe(), Recipe("ddpm"), Recipe("ddim", 2, "trailing", {"eta": 1.0})]


@pytest.fixture
def by_class(labelled_images, tmp_path):
    """A run on images of two classes, a few steps old."""
    net = UNET | {"classes": 2}
    run = create(tmp_path / "by-class", labelled_images, net=net, prediction="v", label_drop=0.2)
    run.train(4, progress=None)
    return run


def test_x0_of_images_is_clipped_to_their_range_and_of_points_it_is_not(run, labelled_images, tmp_path):
    assert run.denoiser().clip is None
    of_images = create(tmp_path / "images", labelled_images, net=UNET)
    assert of_images.denoiser().clip == (-1, 1)
    x, t = np.zeros((2, 4, 4, 1), np.float32), np.array([1, 4])
    of_images.trainer.ema_net.last.b.data[...] = 7  # it samples with the EMA weights as they are now
    np.testing.assert_array_equal(of_images.denoiser().net(x, t), of_images.trainer.ema_net(x, t))
    assert of_images.denoiser().net(x, t).mean() == 7


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_the_denoiser_is_the_one_made_by_hand_right(labelled_images, tmp_path, prediction):
    run = create(tmp_path / "run", labelled_images, net=UNET, prediction=prediction)
    run.train(3, progress=None)
    x, t = np.random.default_rng(0).standard_normal((3, 4, 4, 1), dtype=np.float32), np.array([1, 3, 4])
    by_hand = Denoiser(run.trainer.ema_net, run.schedule, prediction, (-1, 1))(x, t)
    for made in (run, Run.open(run.folder), Run.resume(run.folder)):
        for got, right in zip(made.denoiser()(x, t), by_hand, strict=True):
            np.testing.assert_array_equal(got, right)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: str(asdict(recipe)))
def test_samples_are_those_of_generate_in_the_units_of_the_data(run, recipe):
    run.train(3, progress=None)
    x = generate(run.denoiser(), run.shape, 5, np.random.default_rng(3), recipe)
    samples = run.sample(5, recipe=recipe, seed=3)
    np.testing.assert_array_equal(samples, run.units.to_units(x))
    np.testing.assert_allclose(samples, x * np.array(run.units.scale) + np.array(run.units.offset), atol=1e-4)
    assert samples.shape == (5, 2) and samples.dtype == np.float32
    assert (run.sample(5, recipe=recipe, seed=4) != samples).any()
    np.testing.assert_array_equal(run.sample(5, recipe=recipe), run.sample(5, recipe=recipe, seed=0))


@pytest.mark.compiled  # BLAS may sum in another order in a batch of another size
@given(count=st.integers(0, 20))
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: str(asdict(recipe)))
def test_the_first_samples_are_the_same_whatever_the_count(tmp_path_factory, recipe, count):
    points = tmp_path_factory.getbasetemp() / "points.npy"
    if not points.exists():
        np.save(points, np.random.default_rng(0).normal(size=(40, 2)))
        run = create(points.with_suffix(""), points)
        run.train(3, progress=None)
    run = Run.open(points.with_suffix(""))
    np.testing.assert_array_equal(run.sample(count, recipe=recipe), run.sample(20, recipe=recipe)[:count])


@pytest.mark.compiled
def test_the_first_batch_is_the_same_to_the_last_bit_in_a_larger_sample(run):
    run.train(3, progress=None)
    first = run.sample(2048)  # of points, a batch holds 4096/2
    np.testing.assert_array_equal(run.sample(2049)[:2048], first)


def test_a_class_is_sampled_with_its_guidance(by_class):
    for label, scale in ((0, 1.0), (1, 3.0), (np.array([0, 1, 1]), 2.0), (1, 0.0)):
        plain = Denoiser(nn.frozen(by_class.net), by_class.schedule, "v", (-1, 1))
        guided = guidance.classifier_free(plain, label, 2, scale)
        x = generate(guided, by_class.shape, 3, np.random.default_rng(0), Recipe())
        samples = by_class.sample(3, Conditioning(label, scale))
        np.testing.assert_array_equal(samples, by_class.units.to_units(x))


def test_byte_images_are_sampled_from_0_to_255(by_class):
    samples = by_class.sample(6)
    assert samples.shape == (6, 4, 4, 1) and samples.min() >= 0 and samples.max() <= 255
    assert samples.max() > 2


def test_the_report_is_called_after_every_step(run):
    seen = []
    run.sample(3, recipe=Recipe("ddim", 4), report=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize(
    ("net", "conditioning", "message"),
    [
        ({}, Conditioning(0), "without classes"),
        ({"classes": 2}, Conditioning(2), "classes 0…1, not 2"),
        ({"classes": 2}, Conditioning(0, 2.0), "only guidance it allows is 1"),
    ],
    ids=["no classes", "unknown class", "no dropped labels"],
)
def test_conditioning_that_does_not_fit_is_refused_with_the_name_of_the_run(
    labelled_images, tmp_path, net, conditioning, message
):
    run = create(tmp_path / "run", labelled_images, net=UNET | net, label_drop=0.0)
    for sample in (lambda: run.sample(1, conditioning), lambda: run.denoiser(conditioning)):
        with pytest.raises(ValueError, match=rf"{run.folder}: .*{message}"):
            sample()


def test_a_recipe_that_does_not_fit_the_schedule_is_refused(run):
    with pytest.raises(ValueError, match="5"):
        run.sample(1, recipe=Recipe("ddim", 5))


@pytest.mark.parametrize("learned", [False, True])
def test_the_variance_in_the_bound_is_the_learned_one_where_there_is_one(source, tmp_path, learned):
    run = create(tmp_path / "run", source, net=MLP | {"learned_variance": learned})
    assert run.variance == Run.open(run.folder).variance == ("learned" if learned else "large")
    train(run, 2)
    assert (run.denoiser()(np.ones((1, 2)), 3).log_variance is not None) == learned
    assert run.sample(2, recipe=Recipe("ddpm", options={"variance": run.variance})).shape == (2, 2)
