"""The judge of the images: it learns quickly, and is the same judge each time."""

import numpy as np
import pytest

from minidiff import classifier, datasets

DIGITS = datasets.load("digits")


@pytest.fixture(scope="module")
def judge():
    return classifier.fit(DIGITS.x, DIGITS.labels, DIGITS.classes, seed=0, steps=150)


def test_it_knows_nine_in_ten_digits_it_never_saw_after_150_steps(judge):
    right = judge.probabilities(DIGITS.held_out).argmax(axis=1) == DIGITS.held_out_labels
    assert right.mean() > 0.9


def test_probabilities_are_probabilities_and_features_are_64(judge):
    probabilities, features = judge.probabilities(DIGITS.x[:7]), judge.features(DIGITS.x[:7])
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
def test_what_it_says_of_an_image_does_not_depend_on_the_others(judge, monkeypatch):
    whole = judge.features(DIGITS.x[:30])
    monkeypatch.setattr(classifier, "_AT_ONCE", 7)
    np.testing.assert_array_equal(judge.features(DIGITS.x[:30]), whole)
    np.testing.assert_array_equal(judge.features(DIGITS.x[29:30]), whole[29:])


def test_judging_leaves_the_images_as_they_are(judge):
    before = DIGITS.x[:9].copy()
    judge.probabilities(DIGITS.x[:9])
    np.testing.assert_array_equal(DIGITS.x[:9], before)


@pytest.mark.parametrize("shape", [(28, 28, 1), (5, 9, 3), (1, 1, 1), (32, 32, 3)])
def test_images_of_other_sizes_fit_too(shape):
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (6, *shape)).astype(np.float32)
    net = classifier.fit(images, np.arange(6) % 2, 2, steps=1)
    assert net.features(images).shape == (6, classifier.FEATURES)
    assert np.isfinite(net.probabilities(images)).all()


def test_images_are_shifted_by_at_most_a_pixel_each_way_and_keep_their_edge():
    images = np.random.default_rng(1).uniform(-1, 1, (3, 5, 6, 2))
    rng, seen = np.random.default_rng(0), set()
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
        seen.update(found)
    assert len(seen) == 9
