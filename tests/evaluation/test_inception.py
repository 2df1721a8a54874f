"""The network of the FID: its features beside PyTorch's, the same for every batch, and weights that are refused."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidiff.datasets.image_stream import Images
from minidiff.evaluation import inception, inception_metrics
from minidiff.evaluation.inception import Inception
from minidiff.weights import reading, torch_files

FIXTURE = Path(__file__).parent / "inception"
ARRAYS = torch_files.read(FIXTURE / "weights.pth")
with np.load(FIXTURE / "expected.npz") as archive:
    EXPECTED = dict(archive)


@pytest.fixture(scope="module")
def net():
    return Inception(reading.read(FIXTURE / "weights.pth", inception.FIRST))


@pytest.mark.parametrize("images", ["small", "wide"])
def test_features_are_those_of_pytorch(net, images):
    features = net.features(EXPECTED[images])
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, EXPECTED[f"of_{images}"], rtol=0, atol=1e-5)


def test_logits_are_those_of_pytorch_without_the_bias(net):
    np.testing.assert_allclose(
        net.logits(net.features(EXPECTED["small"])), EXPECTED["logits"], rtol=0, atol=1e-4
    )


@pytest.mark.compiled
def test_features_of_an_image_have_the_same_bits_in_every_batch(net, monkeypatch):
    together = net.features(EXPECTED["small"])
    monkeypatch.setattr(inception, "BATCH", 3)
    np.testing.assert_array_equal(together, net.features(EXPECTED["small"]))
    np.testing.assert_array_equal(together[2:3], net.features(EXPECTED["small"][2:3]))


def test_the_fingerprint_of_the_fixture_and_the_checksum_are_known(net):
    mean, std, largest = net.fingerprint
    assert (f"{mean:.4f}", f"{std:.4f}", largest) == ("0.2653", "0.3153", 1)
    assert net.checksum[:8] == "548c977f"


def test_the_order_of_the_arrays_does_not_change_the_checksum_and_a_weight_does(net):
    changed = dict(reversed(ARRAYS.items()))
    assert Inception(changed).checksum == net.checksum
    changed["fc.bias"] = ARRAYS["fc.bias"] + np.float16(1)
    assert Inception(changed).checksum != net.checksum


def with_change(name, change):
    arrays = dict(ARRAYS)
    arrays[name] = change(arrays[name])
    return arrays


LAYER = "Mixed_6c.branch7x7_2"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "it has no Conv2d_1a_3x3.conv.weight, which this network needs"),
        ({n: a for n, a in ARRAYS.items() if n != f"{LAYER}.bn.bias"}, f"it has no {LAYER}.bn.bias, which"),
        (
            ARRAYS | {"AuxLogits.fc.bias": np.zeros(1, np.float32)},
            "it has 'AuxLogits.fc.bias', which this network",
        ),
        (with_change("fc.weight", lambda w: w[:1000]), "fc.weight: expected finite floats (1008, 64), got"),
        (
            with_change("fc.bias", lambda b: b[:1000]),
            "fc.bias: expected finite floats (1008), got float16 (1000,)",
        ),
        (
            with_change(f"{LAYER}.conv.weight", lambda w: w.transpose(0, 1, 3, 2)),
            f"{LAYER}.conv.weight: expected finite floats (any, 5, 1, 7), got float16 (5, 5, 7, 1)",
        ),
        (
            with_change(f"{LAYER}.bn.weight", lambda g: g[1:]),
            f"{LAYER}.bn.weight: expected finite floats (5)",
        ),
        (
            with_change(f"{LAYER}.bn.bias", lambda b: b.astype(int)),
            f"{LAYER}.bn.bias: expected finite floats",
        ),
        (with_change(f"{LAYER}.bn.bias", lambda b: b * np.nan), f"{LAYER}.bn.bias: expected finite floats"),
        (
            {
                name: array * np.float32(1e6) if name.endswith("bn.weight") else array
                for name, array in ARRAYS.items()
            },
            "its features of a picture are not finite",
        ),
    ],
)
def test_other_weights_are_refused_by_name(arrays, message):
    with pytest.raises(ValueError, match=re.escape(message)) as refused:
        Inception(arrays)
    assert "\n" not in str(refused.value)


def test_what_pytorch_counts_beside_the_norms_is_left_out():
    assert any(name.endswith(inception.COUNTER) for name in ARRAYS)


def test_an_image_with_features_that_are_not_finite_is_refused_by_name(net, monkeypatch):
    blocks = [Images(["a.png", "b.png"], EXPECTED["small"][:2]), Images(["c.png"], EXPECTED["small"][2:3])]
    of_block = Inception.features

    def broken(self, images):
        return of_block(self, images) + (np.nan if np.array_equal(images, blocks[1].pixels) else 0)

    monkeypatch.setattr(Inception, "features", broken)
    batches = inception_metrics.features_of(net, blocks)
    assert len(next(batches)) == 2
    with pytest.raises(ValueError, match=r"c\.png: its features are not finite"):
        next(batches)


# ---- the pools and the resize, by their definitions

images = st.tuples(st.integers(3, 8), st.integers(3, 8), st.integers(0, 99)).map(
    lambda s: np.random.default_rng(s[2]).random((2, s[0], s[1], 3), np.float32)
)


@given(images)
def test_the_average_pool_leaves_out_the_padding(h):
    expected = np.empty_like(h)
    for i, j in np.ndindex(h.shape[1:3]):
        neighbours = h[:, max(0, i - 1) : i + 2, max(0, j - 1) : j + 2]
        expected[:, i, j] = neighbours.mean(axis=(1, 2))
    np.testing.assert_allclose(inception.average_pool(h), expected, rtol=1e-6)


@given(images, st.sampled_from([1, 2]))
def test_the_max_pool_is_the_maximum_over_3_by_3_pixels(h, stride):
    padded = np.pad(h, ((0, 0), (1, 1), (1, 1), (0, 0))) if stride == 1 else h
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    expected = windows[:, ::stride, ::stride].max(axis=(-1, -2))
    np.testing.assert_array_equal(inception.max_pool(h, stride), expected)


@pytest.mark.parametrize("size", [1, 2, 150, 299, 300, 598])
def test_a_ramp_stays_a_ramp_when_it_is_resized(size):
    ramp = np.linspace(0, 255, size).round().astype(np.uint8)
    x = inception.resized(np.broadcast_to(ramp[:, None, None], (1, size, 4, 1)))
    assert x.shape == (1, 299, 299, 3) and np.abs(x).max() <= 1 + 1e-6
    # Pixel centres: of the output in the input's pixels, clamped to the first and the last.
    centre = np.clip((np.arange(299) + 0.5) * size / 299 - 0.5, 0, size - 1)
    expected = np.interp(centre, np.arange(size), ramp) / 127.5 - 1
    np.testing.assert_allclose(x[0, :, 7, 2], expected, atol=1e-6)


def test_an_image_of_299_pixels_is_only_scaled():
    image = np.random.default_rng(0).integers(0, 256, (1, 299, 299, 3), np.uint8)
    np.testing.assert_allclose(inception.resized(image), image / 127.5 - 1, atol=1e-6)
