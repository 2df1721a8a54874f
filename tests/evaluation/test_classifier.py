"""The image classifier: it trains quickly and reproducibly."""

import numpy as np
import pytest

from minidiff import classifier, datasets

DIGITS = datasets.load("digits")


@pytest.fixture(scope="module")
def net():
    return classifier.fit(DIGITS.x, DIGITS.labels, DIGITS.classes, seed=0, steps=150)


def test_150_steps_classify_nine_in_ten_held_out_digits_correctly(net):
    correct = net.probabilities(DIGITS.held_out).argmax(axis=1) == DIGITS.held_out_labels
    assert correct.mean() > 0.9


def test_probabilities_are_probabilities_and_features_are_64(net):
    probabilities, features = net.probabilities(DIGITS.x[:7]), net.features(DIGITS.x[:7])
    assert probabilities.shape == (7, 10) and features.shape == (7, classifier.FEATURES)
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


def test_the_same_seed_gives_the_same_features_bit_for_bit_and_another_seed_others():
    def features(seed):
        net = classifier.fit(DIGITS.x, DIGITS.labels, 10, seed, steps=5)
        return net.features(DIGITS.held_out[:10])

    np.testing.assert_array_equal(features(0), features(0))
    assert (features(0) != features(1)).any()


@pytest.mark.compiled
def test_the_output_for_an_image_does_not_depend_on_the_others_of_its_batch(net, monkeypatch):
    whole = net.features(DIGITS.x[:30])
    monkeypatch.setattr(classifier, "_INFERENCE_BATCH", 7)
    np.testing.assert_array_equal(net.features(DIGITS.x[:30]), whole)
    np.testing.assert_array_equal(net.features(DIGITS.x[29:30]), whole[29:])


def test_classifying_does_not_modify_the_images(net):
    before = DIGITS.x[:9].copy()
    net.probabilities(DIGITS.x[:9])
    np.testing.assert_array_equal(DIGITS.x[:9], before)


@pytest.mark.parametrize("shape", [(28, 28, 1), (5, 9, 3), (1, 1, 1), (32, 32, 3)])
def test_images_of_any_size_are_accepted(shape):
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (6, *shape)).astype(np.float32)
    net = classifier.fit(images, np.arange(6) % 2, 2, steps=1)
    assert net.features(images).shape == (6, classifier.FEATURES)
    assert np.isfinite(net.probabilities(images)).all()


def test_images_are_shifted_by_at_most_a_pixel_each_way_and_the_edge_is_repeated():
    images = np.random.default_rng(1).uniform(-1, 1, (3, 5, 6, 2))
    rng, shifts = np.random.default_rng(0), set()
    for _ in range(100):
        moved = classifier._shifted(images, rng)
        found = [
            (down, right)
            for down in (-1, 0, 1)
            for right in (-1, 0, 1)
            if np.array_equal(
                moved,
                images[:, np.clip(np.arange(5) - down, 0, 4)][:, :, np.clip(np.arange(6) - right, 0, 5)],
            )
        ]
        assert len(found) == 1
        shifts.update(found)
    assert len(shifts) == 9
