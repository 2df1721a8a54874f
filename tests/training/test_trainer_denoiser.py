"""`trainer.denoiser()`: the right prediction, the EMA weights of the moment, and conditioning on classes."""

import numpy as np
import pytest
from trainers import POINTS, SCHEDULE, on_images_with_everything_learned, on_labelled_points, on_points

from minidiff import guidance, nn, samplers
from minidiff.diffusion.denoiser import PREDICTIONS, Denoiser
from minidiff.diffusion.guidance import Conditioning

X, T = POINTS[:5], np.array([1, 2, 3, 5, 6])


def assert_same_prediction(denoiser, expected, x=X, t=T):
    for got, right in zip(denoiser(x, t), expected(x, t), strict=True):
        np.testing.assert_array_equal(got, right)


def trained(make, steps=4, **options):
    trainer = make(**options)
    list(trainer.run(steps))
    return trainer


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize(
    "clip", [None, (-0.5, 0.5), guidance.dynamic_threshold()], ids=["no", "range", "dynamic"]
)
@pytest.mark.parametrize("learned_variance", [False, True], ids=["fixed", "learned"])
def test_it_is_the_denoiser_made_by_hand_right(prediction, clip, learned_variance):
    trainer = trained(on_points, prediction=prediction, learned_variance=learned_variance)
    denoiser = trainer.denoiser(clip=clip)
    assert_same_prediction(denoiser, Denoiser(trainer.ema_net, SCHEDULE, prediction, clip))
    assert (denoiser(X, T).log_variance is not None) == learned_variance
    for other in {*PREDICTIONS} - {prediction}:
        assert (
            np.abs(Denoiser(trainer.ema_net, SCHEDULE, other, clip)(X, T).eps - denoiser(X, T).eps).max()
            > 1e-3
        )


def test_points_are_not_clipped_by_default():
    denoiser = trained(on_points).denoiser()
    assert denoiser.clip is None and denoiser.schedule is SCHEDULE
    assert np.abs(denoiser(100 * X, T).x0).max() > 10


def test_it_has_the_ema_weights_and_not_those_of_the_last_step():
    trainer = trained(on_points)
    denoiser = trainer.denoiser()
    np.testing.assert_array_equal(denoiser.net(X, T), trainer.ema_net(X, T))
    assert np.abs(denoiser.net(X, T) - trainer.net(X, T)).max() > 1e-4


def test_it_is_a_snapshot_and_a_later_one_has_the_later_weights():
    trainer = on_points()
    start = trainer.denoiser()
    before = start(X, T)
    list(trainer.run(5))
    assert_same_prediction(start, lambda x, t: before)
    later = trainer.denoiser()
    np.testing.assert_array_equal(later.net(X, T), trainer.ema_net(X, T))
    assert np.abs(later(X, T).eps - before.eps).max() > 1e-4


def test_making_it_does_not_change_training():
    with_denoisers, plain = on_points(), on_points()
    for _ in with_denoisers.run(5):
        with_denoisers.denoiser()(X, T)
    list(plain.run(5))
    np.testing.assert_array_equal(with_denoisers.parameters.values, plain.parameters.values)


def test_samplers_take_it():
    rng = np.random.default_rng(0)
    x_T = samplers.initial_noise(rng, (7, 2))
    samples = samplers.final(samplers.ddim(trained(on_points).denoiser(), x_T, rng))
    assert samples.shape == (7, 2) and np.isfinite(samples).all()


# ---- conditioning


@pytest.mark.parametrize("label", [0, 2, np.array([0, 1, 2, 1, 0])], ids=["0", "2", "each its own"])
@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5])
def test_it_is_conditioned_on_a_class_and_guided(label, scale):
    trainer = trained(on_labelled_points, label_drop=0.2)
    by_hand = guidance.classifier_free(Denoiser(nn.frozen(trainer.ema_net), SCHEDULE), label, 3, scale)
    assert_same_prediction(trainer.denoiser(Conditioning(label, scale)), by_hand)


def test_without_a_label_it_is_the_unconditional_network():
    trainer = trained(on_labelled_points, label_drop=0.2)
    assert_same_prediction(
        trainer.denoiser(), Denoiser(lambda x, t: trainer.ema_net(x, t, np.full(5, 3)), SCHEDULE)
    )


def test_images_of_a_class_with_everything_learned():
    trainer = trained(on_images_with_everything_learned)
    x, t = np.random.default_rng(0).standard_normal((3, 4, 4, 1), dtype=np.float32), np.array([1, 2, 2])
    plain = Denoiser(trainer.ema_net, trainer.schedule, "v", (-1, 1))
    by_hand = guidance.classifier_free(plain, 1, 2, 3.0)
    denoiser = trainer.denoiser(Conditioning(1, 3.0), clip=(-1, 1))
    assert denoiser(x, t).log_variance.shape == x.shape
    assert_same_prediction(denoiser, by_hand, x, t)


@pytest.mark.parametrize(
    ("make", "conditioning", "message"),
    [
        (on_points, dict(label=0), "without classes"),
        (on_labelled_points, dict(label=3), r"classes 0…2, not 3"),
        (on_labelled_points, dict(label=-1), r"classes 0…2, not -1"),
        (on_labelled_points, dict(label=np.array([0, 7])), r"classes 0…2, not 7"),
        (on_labelled_points, dict(label=0, guidance=2.0), "only guidance it allows is 1"),
        (on_labelled_points, dict(label=0, guidance=0.0), "only guidance it allows is 1"),
        (on_labelled_points, dict(guidance=2.0), "give a label"),
        (on_labelled_points, dict(label=0, guidance=np.nan), "finite"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_conditioning_that_the_network_was_not_trained_for_is_refused(make, conditioning, message):
    with pytest.raises(ValueError, match=message):
        make().denoiser(Conditioning(**conditioning))
    assert make().denoiser(Conditioning()).label is None


def test_with_dropped_labels_the_same_guidance_is_allowed():
    for scale in (0.0, 2.0):
        on_labelled_points(label_drop=0.1).denoiser(Conditioning(0, scale))
    assert on_labelled_points().denoiser(Conditioning(0, 1.0)).label == 0
