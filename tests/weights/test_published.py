"""What was published by others computes here what it computes there, and goes out again without a changed bit."""

import shutil

import numpy as np
import pytest
from published_networks import ALL, FOLDER, FOLDERS, HO, HO_SIZE, expected, name_of, read

from minidiff import nn, weights
from minidiff.diffusion import samplers
from minidiff.diffusion.denoiser import Denoiser
from minidiff.runs import Run, imported
from minidiff.training import ScheduleOptions
from minidiff.weights import diffusers, parameters

each = pytest.mark.parametrize("source", ALL, ids=name_of)
each_folder = pytest.mark.parametrize("source", FOLDERS, ids=name_of)


@each
def test_the_network_computes_what_it_computes_in_pytorch(source):
    net, known = read(source).net, expected(source)
    for t, output in zip(known["times"], known["outputs"], strict=True):
        np.testing.assert_allclose(net(known["x"], np.array([t + 1])), output[None], atol=1e-5)


@each
def test_the_noise_and_a_sample_of_ten_steps_are_those_of_diffusers(source):
    net, scheduler = read(source)
    known = expected(source)
    schedule = ScheduleOptions(**scheduler.schedule if scheduler else {}).build()
    np.testing.assert_allclose(schedule.alpha_bar[1:], known["alpha_bar"], atol=1e-6)
    prediction, clips, spacing = "eps", True, "leading"
    if scheduler:
        prediction, clips, spacing = scheduler.prediction, scheduler.clip_x0, scheduler.spacing
    denoiser = Denoiser(net, schedule, prediction, (-1, 1) if clips else None)
    times = getattr(samplers.timesteps, spacing)(schedule.T, 10)
    x = samplers.final(samplers.ddim(denoiser, known["x"], np.random.default_rng(0), times))
    np.testing.assert_allclose(x, known["ddim"], atol=1e-4)


@each
def test_import_export_import_changes_no_bit(source, tmp_path):
    published = read(source)
    run = imported.create(published, tmp_path / "run")
    imported.export(Run.open(run.folder), tmp_path / "exported")
    again = weights.read(tmp_path / "exported")
    assert all_bits(again.net) == all_bits(published.net)
    assert again.net.settings == published.net.settings
    if published.scheduler:  # the options of sampling are no settings of a run
        assert again.scheduler._replace(variance="", spacing="") == published.scheduler._replace(
            variance="", spacing=""
        )


@pytest.mark.parametrize("name", ["paper", "tutorial", "other"])
def test_the_exported_arrays_are_those_of_the_file_that_was_imported(name):
    """Under the same names, in the same layout, but for the order of cosines and sines."""
    net = read(FOLDER / name).net
    (file,) = (FOLDER / name).rglob("*.safetensors")
    stored, exported = weights.safetensors.read(file), parameters.arrays_of(net)
    assert {key: array.shape for key, array in stored.items()} == {
        key: array.shape for key, array in exported.items()
    }
    time = "time_embedding.linear_1.weight"
    assert all(np.array_equal(stored[key], exported[key]) for key in stored if key != time or name == "paper")


def test_a_network_with_times_from_one_is_exported_with_times_from_zero(tmp_path):
    """What was trained here: the rows after sines and cosines are rotated, so that the outputs are the same."""
    for freq_shift in (0, 1):
        net = small_network(freq_shift=freq_shift, time_offset=0)
        folder = tmp_path / f"{freq_shift}"
        weights.write(folder, net, {"_class_name": "DDPMScheduler"})
        again = weights.read(folder).net
        assert again.time_offset == -1
        x = np.random.default_rng(1).standard_normal((3, *net.shape), dtype=np.float32)
        for t in (np.array([1, 2, 30]), np.array([400, 999, 1000])):
            np.testing.assert_allclose(again(x, t), net(x, t), atol=2e-5)
        weights.write(folder / "again", again, {"_class_name": "DDPMScheduler"})
        assert all_bits(weights.read(folder / "again").net) == all_bits(again)


def test_cosines_before_sines_are_another_order_of_rows():
    net = small_network(time_offset=-1)
    arrays = parameters.arrays_of(net)
    rows = arrays["time_embedding.linear_1.weight"]  # (outputs, inputs)
    half = rows.shape[1] // 2
    flipped = arrays | {
        "time_embedding.linear_1.weight": np.concatenate([rows[:, half:], rows[:, :half]], axis=1)
    }
    again = parameters.network(net.settings, flipped, flip_sin_to_cos=True)
    assert all_bits(again) == all_bits(net)


def test_up_blocks_of_ho_are_counted_from_full_resolution():
    """As the ports insert each level before the others. Counted the other way, attention would be at level 0."""
    arrays = weights.reading.read(HO[0])
    assert "up.1.attn.0.q.weight" in arrays and "up.0.attn.0.q.weight" not in arrays
    assert "up.1.upsample.conv.weight" in arrays and "up.0.upsample.conv.weight" not in arrays


def test_the_ema_weights_are_taken_from_whatever_holds_them():
    first, *others = [all_bits(weights.read(source, HO_SIZE).net) for source in HO]
    assert all(other == first for other in others)
    assert any(np.frombuffer(first, np.float32))  # the weights beside them are all zero


def test_files_may_lie_at_the_root_or_below(tmp_path):
    shutil.copytree(FOLDER / "tutorial", tmp_path / "flat")
    for below in ("unet", "scheduler"):
        for path in (tmp_path / "flat" / below).iterdir():
            path.rename(tmp_path / "flat" / path.name)
    assert all_bits(weights.read(tmp_path / "flat").net) == all_bits(weights.read(FOLDER / "tutorial").net)


@each_folder
def test_another_size_may_be_given(source):
    net = weights.read(source, (16, 24)).net
    x = np.zeros((1, 16, 24, net.shape[2]), np.float32)
    assert net.shape == x.shape[1:] and net(x, np.array([1])).shape[:3] == (1, 16, 24)


def test_the_configuration_of_an_exported_network_is_that_of_the_imported():
    config = weights.folders._json(FOLDER / "paper" / "config.json")
    made = diffusers.configuration(diffusers.settings(config) | {"heads": 1, "classes": 0})
    assert {key: value for key, value in config.items() if key[0] != "_"} == {
        key: value for key, value in made.items() if key[0] != "_"
    }


def small_network(**settings):
    net = nn.UNet(
        np.random.default_rng(0), size=8, channels=1, width=8, multipliers=(1, 2), depth=1, attention=(4,), groups=4,
        **settings,
    )  # fmt: skip
    rng = np.random.default_rng(2)
    for parameter in net.named_parameters().values():
        parameter.data[...] = 0.3 * rng.standard_normal(parameter.shape)
    return net


def all_bits(net):
    return b"".join(parameter.data.tobytes() for parameter in net.named_parameters().values())
