"""Reports: good samples score better than bad ones, beside the floor of real data."""

import functools
import json

import numpy as np
import pytest

from minidiff import classifier, datasets, schedules
from minidiff.diffusion.denoiser import Denoiser
from minidiff.diffusion.oracles import Gaussian, Mixture
from minidiff.evaluation import metrics, reports, tables
from minidiff.evaluation.reports import compare, evaluate

DIGITS = datasets.load("digits")


@pytest.fixture
def quick_classifier(monkeypatch):
    monkeypatch.setattr(classifier, "fit", functools.partial(classifier.fit, steps=100))


def points(name):
    rng = np.random.default_rng(0)
    return datasets.from_raw(name, datasets.draw(name, 3000, rng), held_out=datasets.draw(name, 1000, rng))


def unlabelled_images():
    levels = DIGITS.units.to_units(DIGITS.x)
    return datasets.from_raw("plain", levels, limits=(0, 16))


def real(data, count):
    """Real samples, from the training set in a random order."""
    return data.x[np.random.default_rng(9).permutation(len(data.x))[:count]]


def noise(data, count):
    return np.random.default_rng(1).standard_normal((count, *data.x.shape[1:]), dtype=np.float32)


def metrics_with_a_floor(report):
    return [name for name in report if f"{name}_floor" in report]


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        (points("mixture1d"), {"wasserstein1", "energy_distance"}),
        (points("moons"), {"sliced_wasserstein", "energy_distance"}),
        (unlabelled_images(), {"sliced_wasserstein"}),
    ],
    ids=["1-D", "2-D", "images"],
)
def test_real_data_scores_near_its_floor_and_noise_far_from_it(data, keys):
    good, bad = evaluate(real(data, 1000), data), evaluate(noise(data, 1000), data)
    assert set(metrics_with_a_floor(good)) == keys
    for name in keys:
        assert good[f"{name}_floor"] == bad[f"{name}_floor"] > 0
        assert good[name] < 4 * good[f"{name}_floor"]
        assert bad[name] > 2 * max(good[name], good[f"{name}_floor"])


def test_points_are_measured_in_their_own_units():
    data = points("mixture1d")
    # 1 in the network's range is one σ of the data
    report = evaluate(data.held_out[:] + np.float32(1.0), data)
    assert report["wasserstein1"] == pytest.approx(data.units.scale[0], rel=1e-3)


def test_labelled_images_are_measured_by_a_classifier_as_well(quick_classifier):
    good, bad = evaluate(real(DIGITS, 300), DIGITS), evaluate(noise(DIGITS, 300), DIGITS)
    assert set(good) == {
        "sliced_wasserstein",
        "sliced_wasserstein_floor",
        "nearest_training_image",
        "nearest_training_image_of_held_out",
        "classifier_accuracy",
        "confidence",
        "confidence_of_held_out",
        "class_fractions",
        "frechet_distance",
        "frechet_distance_floor",
    }
    assert good["frechet_distance"] < 2.5 * good["frechet_distance_floor"]
    assert bad["frechet_distance"] > 5 * bad["frechet_distance_floor"]
    assert good["classifier_accuracy"] == bad["classifier_accuracy"] > 0.85
    assert good["confidence"] > bad["confidence"]
    assert len(good["class_fractions"]) == 10 and sum(good["class_fractions"]) == pytest.approx(1, abs=1e-3)
    assert 0.04 < min(good["class_fractions"]) <= max(good["class_fractions"]) < 0.2


def test_memorised_images_are_detected_and_new_ones_are_not():
    data = unlabelled_images()
    copies, new = evaluate(data.x[:100], data), evaluate(data.held_out[:], data)
    assert copies["nearest_training_image"] == 0
    assert new["nearest_training_image"] == new["nearest_training_image_of_held_out"] > 1


def test_the_same_samples_and_seed_give_the_same_report(quick_classifier):
    samples = real(DIGITS, 50)
    assert evaluate(samples, DIGITS, seed=3) == evaluate(samples, DIGITS, seed=3)


def test_a_report_survives_json(quick_classifier):
    report = evaluate(real(DIGITS, 50), DIGITS)
    assert json.loads(json.dumps(report)) == report


def test_there_may_be_more_samples_than_real_ones():
    data = unlabelled_images()
    assert evaluate(noise(data, 1500), data)["sliced_wasserstein"] > 0


def test_data_with_nothing_held_out_is_refused():
    data = datasets.from_raw("few", np.arange(3.0))
    assert data.held_out is None
    with pytest.raises(ValueError, match=r"few.*held out"):
        evaluate(data.x[:], data)


def test_held_out_images_without_labels_have_no_accuracy_of_zero(quick_classifier):
    levels = DIGITS.units.to_units(DIGITS.x)
    data = datasets.from_raw("half", levels, DIGITS.labels, held_out=levels[:50], limits=(0, 16))
    assert evaluate(real(data, 50), data).get("classifier_accuracy") != 0


def test_samples_of_a_class_are_compared_with_that_class_alone(quick_classifier):
    sevens = DIGITS.x[DIGITS.labels == 7]
    report = evaluate(sevens, DIGITS, labels=np.full(len(sevens), 7))
    assert report["classified_as_requested"] == pytest.approx(report["class_fractions"][7], abs=1e-4)
    assert report["classified_as_requested"] > 0.9
    assert report["nearest_training_image"] == 0
    assert report["frechet_distance"] == pytest.approx(report["frechet_distance_floor"], rel=1e-6)
    eights = DIGITS.x[DIGITS.labels == 8]
    wrong = evaluate(eights, DIGITS, labels=np.full(len(eights), 7))
    assert wrong["classified_as_requested"] < 0.05 and wrong["nearest_training_image"] > 1
    assert wrong["frechet_distance"] > 4 * wrong["frechet_distance_floor"]


def test_a_class_of_which_nothing_is_held_out_is_refused():
    with pytest.raises(ValueError, match=r"nothing of class \[12\] held out"):
        evaluate(DIGITS.x[:5], DIGITS, labels=np.full(5, 12))


def test_the_requested_classes_are_those_of_the_data_in_another_order():
    labels = reports.labels_like(DIGITS, len(DIGITS.x), 3)
    assert np.array_equal(np.bincount(labels), np.bincount(DIGITS.labels))
    assert not np.array_equal(labels, DIGITS.labels)
    assert np.array_equal(reports.labels_like(DIGITS, 3 * len(DIGITS.x), 3), np.tile(labels, 3))


def test_classes_of_data_without_labels_cannot_be_requested():
    with pytest.raises(ValueError, match="plain has none"):
        reports.labels_like(unlabelled_images(), 3)


# ---- compression


def test_bits_of_points_in_their_own_units_are_their_entropy_under_the_exact_model():
    """With the exact ε of a Gaussian and σ² = β the bound is near the entropy, ½ log₂ 2πe s² bits a coordinate."""
    rng, std = np.random.default_rng(0), 5.0
    data = datasets.from_raw("wide", 2 + std * rng.standard_normal((20_000, 1)))
    schedule = schedules.linear(1000)
    denoiser = Denoiser(Gaussian([0.0], [[1.0]]).network(schedule), schedule)
    report, rate, rmse = reports.compression(denoiser, data, "large")
    entropy = np.log2(2 * np.pi * np.e * std**2) / 2
    assert abs(report["bits_per_dim"] - entropy) < 4 * report["bits_per_dim_error"] + 0.15
    total = sum(report[f"bits_per_dim_{name}"] for name in ("prior", "steps", "data"))
    assert total == pytest.approx(report["bits_per_dim"])
    assert rate[0] == pytest.approx(report["bits_per_dim_prior"], abs=0.01)
    assert rmse[0] == pytest.approx(std, rel=0.1) and rmse[-1] < 0.1 * std
    assert np.all(np.diff(rate) > 0) and rate.shape == rmse.shape


def test_images_with_levels_are_encoded_by_a_probability_and_others_by_a_density():
    assert reports.levels(DIGITS) == 17
    real_valued = datasets.from_raw("real", np.random.default_rng(0).random((50, 4, 4)))
    assert reports.levels(real_valued) is None
    assert reports.levels(points("moons")) is None
    schedule = schedules.cosine(20)
    denoiser = Denoiser(lambda x, t: np.zeros_like(x), schedule, "x0")
    report, _, rmse = reports.compression(denoiser, DIGITS, "small")
    assert report["bits_per_dim_data"] > 0 and report["bits_per_dim_error"] > 0
    blank = 8 * np.sqrt((DIGITS.held_out[:] ** 2).mean())  # x̂_0 = 0 is 8 of 0…16
    assert rmse[0] == pytest.approx(blank, rel=0.05) and rmse[-1] == pytest.approx(rmse[0])


def test_compression_by_class_conditions_the_network_on_the_label_of_each_image():
    seen, schedule = [], schedules.cosine(20)

    def net(x, t, label=None):
        seen.append((len(x), label))
        return np.zeros_like(x)

    denoiser = Denoiser(net, schedule, "x0")
    reports.compression(denoiser, DIGITS, "small")
    assert all(label is None for _, label in seen)
    seen.clear()
    reports.compression(denoiser, DIGITS, "small", labels=np.arange(10))
    order = np.random.default_rng(0).permutation(len(DIGITS.held_out))[: seen[0][0]]
    assert all(np.array_equal(label, DIGITS.held_out_labels[order]) for _, label in seen)
    seen.clear()
    reports.compression(denoiser, DIGITS, "small", labels=np.array([7, 7]))
    assert all(n == (DIGITS.held_out_labels == 7).sum() and np.all(label == 7) for n, label in seen)


def test_compression_with_nothing_held_out_is_refused():
    data = datasets.from_raw("few", np.arange(3.0))
    schedule = schedules.cosine(20)
    with pytest.raises(ValueError, match="held out"):
        reports.compression(Denoiser(lambda x, t: x, schedule), data, "large")


# ---- the comparison of samplers


def test_a_comparison_keeps_to_its_nfe_and_distances_fall_with_it():
    """With the exact ε the distance falls with the NFE, and 20 are enough for a second-order sampler.

    1000 samples against 1000: the random weights of the three peaks alone make distances up to about 0.03.
    """
    data, schedule, batches = points("mixture1d"), schedules.linear(120, 1e-3, 0.15), []
    offset, scale = data.units.offset[0], data.units.scale[0]
    scaled = Mixture(
        [0.3, 0.4, 0.3],
        (np.array([[0.5], [0.1], [-0.4]]) - offset) / scale,
        (np.array([0.01, 0.03, 0.01]) / scale).reshape(3, 1, 1) ** 2,
    )
    truth = scaled.network(schedule)

    def net(x, t):
        batches.append(len(x))
        return truth(x, t)

    found = compare(Denoiser(net, schedule), data, ["ddpm", "heun", "dpmpp_2m"], 1000)
    assert found.distance == "wasserstein1" and list(found.samplers) == ["ddpm", "heun", "dpmpp_2m"]
    assert sum(batches) <= 3 * 1000 * (5 + 10 + 20 + 50 + 100 + 120)
    for by_nfe in found.samplers.values():
        assert list(by_nfe) == [5, 10, 20, 50, 100, 120]
        assert by_nfe[5] > 2 * by_nfe[120]
        assert by_nfe[120] < 0.045
    assert found.samplers["dpmpp_2m"][20] < 0.045
    assert 0 < found.floor < 0.045


def test_labelled_images_are_compared_by_a_classifier_s_features(quick_classifier):
    schedule = schedules.linear(5, 0.1, 0.9)
    found = compare(Denoiser(lambda x, t: 0.5 * x, schedule, "x0"), DIGITS, ["unipc"], 60)
    assert found.distance == "frechet_distance"
    assert found.samplers["unipc"][5] > 3 * found.floor > 0


def test_samplers_conditioned_on_a_class_are_compared_with_that_class_alone(quick_classifier):
    seen, labels, schedule = [], np.full(60, 7), schedules.linear(5, 0.1, 0.9)

    def net(x, t, label):
        seen.append(label)
        return 0.5 * x

    found = compare(Denoiser(net, schedule, "x0", label=labels), DIGITS, ["unipc"], 60, labels=labels)
    assert all(np.array_equal(label, labels) for label in seen)
    report = evaluate(noise(DIGITS, 60), DIGITS, labels=labels)
    assert found.floor == report["frechet_distance_floor"]


def test_the_error_of_a_distance_is_its_standard_deviation_over_draws_of_noise():
    data, schedule = points("mixture1d"), schedules.linear(8, 0.1, 0.9)
    denoiser = Denoiser(Gaussian([0.0], [[1.0]]).network(schedule), schedule)
    found = [compare(denoiser, data, ["ddpm"], 300, seed) for seed in range(12)]
    observed = np.std([f.samplers["ddpm"][8] for f in found], ddof=1)
    estimated = np.mean([f.errors["ddpm"][8] for f in found])
    assert observed / 2 < estimated < 2 * observed


def test_each_measurement_is_reported():
    seen, data = [], points("moons")
    denoiser = Denoiser(lambda x, t: x, schedules.linear(8, 0.1, 0.9), "x0")
    found = compare(denoiser, data, ["ddim", "pc"], 30, report=lambda done, total: seen.append((done, total)))
    assert found.distance == "sliced_wasserstein"
    assert seen == [(done, 4) for done in (1, 2, 3, 4)]  # NFE 5 and T = 8 for each


def test_a_comparison_with_nothing_held_out_is_refused():
    data = datasets.from_raw("few", np.arange(3.0))
    with pytest.raises(ValueError, match=r"few.*held out"):
        compare(Denoiser(lambda x, t: x, schedules.linear(8, 0.1, 0.9), "x0"), data, ["ddim"], 3)


def test_every_figure_of_a_report_is_in_its_table_with_its_meaning(quick_classifier):
    report = evaluate(real(DIGITS, 50), DIGITS, labels=DIGITS.labels[:50])
    report |= reports.compression(Denoiser(lambda x, t: x, schedules.linear(8, 0.1, 0.9)), DIGITS, "large")[0]
    text = tables.table(report)
    figures = {key for key in report if not key.endswith(("_floor", "_of_held_out", "_error"))}
    assert figures == {row.key for row in tables.rows(report)}
    for value in report.values():
        if not isinstance(value, list):
            assert f"{value:.4f}" in text


def test_what_cannot_be_measured_is_none_and_stands_in_the_table_as_such():
    one = DIGITS.x[:1]
    report = reports._with_floors({"frechet_distance": metrics.frechet_distance}, one, one, DIGITS.x[:9])
    assert report == {"frechet_distance": None, "frechet_distance_floor": None}
    assert tables.table(report).split() == ["frechet", "distance", "not", "measured"]


def test_samplers_that_cannot_be_compared_are_refused_before_anything_is_sampled(monkeypatch):
    monkeypatch.setattr(reports.classifier, "fit", functools.partial(reports.classifier.fit, steps=1))
    monkeypatch.setattr(reports.generation, "generate", pytest.fail)
    denoiser = Denoiser(lambda x, t: x, schedules.cosine(4))
    with pytest.raises(metrics.TooFew, match="at least 2"):
        reports.compare(denoiser, DIGITS, ["ddim"], count=1)
