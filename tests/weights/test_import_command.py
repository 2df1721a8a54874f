"""`minidiff import` makes an ordinary run, `minidiff export` a folder; what cannot be is refused by its name."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from mutants import mutants, outcomes
from published_networks import FOLDER, HO

from minidiff import nn, weights
from minidiff.cli import main
from minidiff.datasets import from_raw
from minidiff.runs import Run, imported
from minidiff.weights import ho, parameters

SMALL = dict(size=8, channels=1, width=8, multipliers=[1, 2], depth=1, attention=[4], groups=4, dropout=0.0)


@pytest.fixture
def run(tmp_path, capsys):
    """An imported network without data."""
    folder = tmp_path / "run"
    assert main(["import", str(FOLDER / "paper"), "--out", str(folder)]) == 0
    assert "18,399 parameters" in capsys.readouterr().out
    return folder


@pytest.fixture
def images(tmp_path):
    """A file of colour images of the network's size."""
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3), dtype=np.uint8))
    return tmp_path / "images.npy"


def refusal(capsys, status, *arguments):
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == status
    out, err = capsys.readouterr()
    assert err.startswith("minidiff: ") and err.count("\n") == 1 and out == "", err
    return err


def test_the_options_are_printed_that_sample_as_the_scheduler_does(tmp_path, capsys):
    main(["import", str(FOLDER / "paper"), "--out", str(tmp_path / "run")])
    printed = capsys.readouterr().out
    assert printed.endswith(
        "sample {} --sampler ddpm --variance large --spacing leading\n".format(tmp_path / "run")
    )
    command = printed.rsplit("minidiff ", 1)[1].split()
    assert main([*command, "--count", "1", "--steps", "2"]) == 0


def test_an_imported_run_is_sampled_and_edits_given_images(run, images, capsys):
    out = run.parent / "out"
    out.mkdir()
    for command in (
        ["info", run],
        ["sample", run, "--count", 2, "--steps", 2, "--out", out / "samples.npz"],
        ["invert", run, "--from", images, "--steps", 2, "--count", 1, "--out", out / "inverted.npz"],
        ["interpolate", run, "--from", images, "--steps", 2, "--count", 2, "--out", out / "between.npz"],
        [
            "inpaint",
            run,
            "--from",
            images,
            "--steps",
            2,
            "--count",
            1,
            "--jump",
            1,
            "--out",
            out / "whole.npz",
        ],
    ):
        assert main([str(argument) for argument in command]) == 0
    with np.load(out / "samples.npz") as arrays:
        assert arrays["samples"].shape == (2, 8, 8, 3)
        assert (
            arrays["samples"].min() >= 0 and arrays["samples"].max() <= 255 and np.ptp(arrays["samples"]) > 2
        )


@pytest.mark.parametrize(
    "command", [["evaluate"], ["train", "--resume"], ["invert"], ["interpolate"], ["inpaint"]], ids=str
)
def test_what_needs_data_names_what_is_missing(command, run, capsys):
    assert "was imported without data: give some with --data PATH" in refusal(capsys, 1, *command, run)


USES = {
    "evaluate": ["--count", "4", "--steps", "2"],
    "invert": ["--count", "2", "--steps", "2"],
    "interpolate": ["--count", "2", "--steps", "2"],
    "inpaint": ["--count", "1", "--steps", "2", "--resample", "1", "--jump", "1"],
}


@pytest.mark.parametrize("command", USES)
def test_a_run_without_data_takes_some_for_a_command_and_keeps_nothing(command, run, images, capsys):
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    assert main([command, str(run), *USES[command], "--data", str(images)]) == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]
    assert len(notes) == 1 and f"is not known to be what {run} was trained on" in notes[0]
    assert before == {name: (run / name).read_bytes() for name in before}
    assert not [path.name for path in run.iterdir() if path.suffix == ".npz" and path.name not in before]
    refusal(capsys, 1, command, run, *USES[command])


@pytest.mark.parametrize("command", [*USES, "train --resume"])
def test_data_of_another_shape_than_the_network_s_is_refused(command, run, capsys):
    err = refusal(capsys, 1, *command.split(), run, "--data", "digits")
    assert "digits: expected images (8, 8, 3), as the network has them, got (8, 8, 1)" in err


@pytest.mark.parametrize("command", ["invert", "interpolate", "inpaint"])
def test_images_come_from_one_source(command, run, images, capsys):
    err = refusal(capsys, 2, command, run, "--from", images, "--data", images)
    assert f"{command}: the images are those of --from; leave out --data" in err


def test_a_run_without_data_is_trained_on_what_it_is_given_then_and_keeps_it(run, images, tmp_path):
    resumed = Run.resume(run, images)
    other = imported.create(weights.read(FOLDER / "paper"), tmp_path / "other", images)
    with_data = Run.resume(other.folder)
    steps = [list(each.train_iter(3)) for each in (resumed, with_data)]
    assert steps[0] == steps[1]
    assert resumed.trainer.parameters.values.tobytes() == with_data.trainer.parameters.values.tobytes()
    resumed.save()
    again = Run.resume(run)
    assert again.step == 3 and again.settings == Run.open(other.folder).settings
    assert again.facts == with_data.facts


def test_with_data_training_goes_on_from_the_weights(images, tmp_path, capsys):
    folder = tmp_path / "trained"
    arguments = ["--data", str(images), "--batch", "4", "--lr", "0.001"]
    assert main(["import", str(FOLDER / "paper"), "--out", str(folder), *arguments]) == 0
    published = weights.read(FOLDER / "paper").net.named_parameters()
    run = Run.resume(folder)
    for vector in (run.trainer.parameters.values, run.trainer.ema.values):
        for name, array in run.trainer.parameters.views(vector).items():
            np.testing.assert_array_equal(array, published[name].data)
    assert run.step == 0 and not run.trainer.adam.first.any()
    assert run.settings.training.lr == 0.001 and run.settings.data == str(images)

    run.train(steps=3, progress=None)
    again = Run.resume(folder)
    again.train(steps=5, progress=None)
    assert again.step == 5
    assert main(["evaluate", str(folder), "--count", "4", "--steps", "2"]) == 0


def test_data_of_another_shape_is_refused_and_no_folder_made(tmp_path, capsys):
    err = refusal(capsys, 1, "import", FOLDER / "paper", "--out", tmp_path / "run", "--data", "digits")
    assert "expected images (8, 8, 3), as the network has them, got (8, 8, 1)" in err
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_not_empty_is_not_touched(run, capsys):
    before = {path: path.read_bytes() for path in run.iterdir()}
    assert "not empty" in refusal(capsys, 1, "import", FOLDER / "paper", "--out", run)
    assert "not empty" in refusal(capsys, 1, "export", run, "--to", run)
    assert {path: path.read_bytes() for path in run.iterdir()} == before


def test_a_file_without_configuration_takes_its_size_and_noise_from_options(tmp_path, capsys):
    err = refusal(capsys, 1, "import", HO[0], "--out", tmp_path / "run")
    assert "give it with --size" in err
    options = ["--size", "4", "--schedule", "cosine", "--T", "50"]
    assert main(["import", str(HO[0]), "--out", str(tmp_path / "run"), *options]) == 0
    run = Run.open(tmp_path / "run")
    assert run.shape == (4, 4, 3) and run.schedule.T == 50 and run.settings.schedule.schedule == "cosine"


@pytest.mark.parametrize("option", [["--T", "50"], ["--schedule", "cosine"], ["--prediction", "v"]], ids=str)
def test_what_the_scheduler_says_is_not_given_again(option, tmp_path, capsys):
    err = refusal(capsys, 2, "import", FOLDER / "paper", "--out", tmp_path / "run", *option)
    assert "already in the configuration of the scheduler" in err


UNSUPPORTED = {
    "center_input_sample": True,
    "time_embedding_type": "fourier",
    "time_embedding_dim": 24,
    "freq_shift": 2,
    "down_block_types": ["SkipDownBlock2D", "DownBlock2D", "DownBlock2D"],
    "mid_block_type": None,
    "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D"],
    "block_out_channels": [],
    "layers_per_block": 0,
    "mid_block_scale_factor": 2,
    "downsample_padding": 2,
    "downsample_type": "resnet",
    "upsample_type": "resnet",
    "act_fn": "gelu",
    "attention_head_dim": 3,
    "norm_num_groups": 3,
    "attn_norm_num_groups": 4,
    "norm_eps": "small",
    "resnet_time_scale_shift": "scale_shift",
    "add_attention": 1,
    "class_embed_type": "timestep",
    "num_class_embeds": 10,
    "out_channels": 5,
    "in_channels": "3",
    "sample_size": None,
    "dropout": 2,
    "flip_sin_to_cos": "no",
    "a_key_of_the_future": 1,
    "_class_name": "UNet2DConditionModel",
}
OTHER_NAMES = {  # of arguments here that are other words there
    "attention_head_dim": "head_channels",
    "norm_num_groups": "groups",
    "add_attention": "middle_attention",
}
NOISE = {
    "_class_name": "EulerDiscreteScheduler",
    "beta_schedule": "laplace",
    "variance_type": "learned",
    "clip_sample_range": 2.0,
    "prediction_type": "flow_prediction",
    "thresholding": True,
    "timestep_spacing": "random",
    "num_train_timesteps": 0,
    "beta_start": "small",
    "trained_betas": [0.1, "0.2"],
}


@pytest.fixture
def changed(tmp_path):
    """A copy of the folder of a network with one key changed in one of its files."""

    def change(file, key, value):
        shutil.copytree(FOLDER / "paper", tmp_path / "changed")
        path = tmp_path / "changed" / file
        path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
        return tmp_path / "changed"

    return change


@pytest.mark.parametrize("key", UNSUPPORTED)
def test_a_network_that_there_is_not_here_is_refused_by_the_name_of_its_setting(key, changed, capsys):
    folder = changed("config.json", key, UNSUPPORTED[key])
    err = refusal(capsys, 1, "import", folder, "--out", folder.parent / "run")
    assert re.search(rf"\b({key}|{OTHER_NAMES.get(key, key)})\b", err) and str(folder) in err


@pytest.mark.parametrize("key", NOISE)
def test_a_scheduler_that_there_is_not_here_is_refused_by_the_name_of_its_setting(key, changed, capsys):
    folder = changed("scheduler_config.json", key, NOISE[key])
    names = {"num_train_timesteps": "T", "trained_betas": "betas"}
    capsys.readouterr()
    assert main(["import", str(folder), "--out", str(folder.parent / "run")]) in (1, 2)
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and re.search(rf"\b({key}|{names.get(key, key)})\b", err), err


files = pytest.mark.parametrize("file", ["config.json", "scheduler_config.json"])


@files
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"[" * 100_000, b"\xff", b" " * (1 << 21)], ids=len)
def test_a_damaged_configuration_is_refused_in_one_line(file, content, changed, capsys):
    folder = changed(file, "a", 1)
    (folder / file).write_bytes(content)
    assert str(folder / file) in refusal(capsys, 1, "import", folder, "--out", folder.parent / "run")


@files
def test_mutants_of_a_configuration_are_refused_in_one_line_and_little_memory(file, changed):
    folder = changed(file, "_class_name", "UNet2DModel")
    values = [None, True, -1, 0, 1.5, 1 << 70, "a", [], {}, [[]], [None], ["DownBlock2D"] * 3, [4, 8, 8.0]]
    sound = json.loads((FOLDER / "paper" / file).read_text())
    contents = [json.dumps(sound | {key: value}).encode() for key in sound for value in values]
    contents += mutants((FOLDER / "paper" / file).read_bytes(), 300, important=500)
    found = outcomes(lambda _: weights.read(folder), folder / file, contents)
    assert len([message for message in found if message]) > 200


@pytest.mark.parametrize(
    ("key", "value"),
    [("block_out_channels", [4, 8, 1 << 40]), ("layers_per_block", 1 << 40), ("in_channels", 1 << 40)],
    ids=str,
)
def test_no_memory_is_allocated_for_a_network_that_the_weights_do_not_fill(key, value, changed, capsys):
    folder = changed("config.json", key, value)
    if key == "in_channels":
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"out_channels": value}))
    err = refusal(capsys, 1, "import", folder, "--out", folder.parent / "run")
    assert "diffusion_pytorch_model.safetensors" in err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: arrays.pop("conv_out.bias"), "has no conv_out.bias"),
        (
            lambda arrays: arrays.update(more=np.zeros(3, np.float32)),
            "has 'more', which this network does not have",
        ),
        (lambda arrays: arrays.update({"conv_out.bias": np.zeros(4, np.float32)}), "conv_out.bias: expected"),
        (
            lambda arrays: arrays.update({"conv_out.bias": np.full(3, np.nan, "f4")}),
            "conv_out.bias: expected finite floats",
        ),
        (lambda arrays: arrays.clear(), "expected the weights of a U-Net"),
    ],
    ids=["missing", "left over", "another shape", "not finite", "none"],
)
def test_arrays_that_do_not_fit_the_network_are_refused(change, message, tmp_path, capsys):
    folder = shutil.copytree(FOLDER / "paper", tmp_path / "changed")
    path = folder / "diffusion_pytorch_model.safetensors"
    arrays = {name: array.copy() for name, array in weights.safetensors.read(path).items()}
    change(arrays)
    weights.safetensors.write(path, arrays)
    assert message in refusal(capsys, 1, "import", folder, "--out", tmp_path / "run")


@pytest.mark.parametrize("name", ["conv_in.weight", "conv_out.weight", "down.0.block.0.conv1.weight"])
@pytest.mark.parametrize("shape", [(), (3,), (0, 0), (32, 3, 3), (5, 3, 3, 3)], ids=str)
def test_a_file_without_configuration_whose_shapes_fit_nothing_is_refused(name, shape):
    arrays = weights.reading.read(HO[0]) | {name: np.zeros(shape, np.float32)}
    with pytest.raises(ValueError, match=r"^[^\n]*$"):
        parameters.network(ho.settings(arrays, 4), arrays)


@pytest.mark.parametrize("source", ["nowhere", "", "config.json"])
def test_what_is_no_network_is_refused(source, tmp_path, capsys):
    (tmp_path / "config.json").write_text("{}")
    path = tmp_path / "empty" if source == "" else tmp_path / source
    if source == "":
        path.mkdir()
    err = refusal(capsys, 1, "import", path, "--out", tmp_path / "run")
    assert str(path) in err


INEXPRESSIBLE = {
    "classes": dict(classes=3),
    "multipliers": dict(multipliers=[2, 2]),
    "size": dict(size=7, attention=[4]),
    "heads": dict(attention=[8], heads=2),
}


@pytest.mark.parametrize("name", INEXPRESSIBLE)
def test_what_diffusers_does_not_have_is_refused_by_name(name, tmp_path):
    settings = SMALL | INEXPRESSIBLE[name]
    side = settings["size"]
    pixels = np.random.default_rng(0).integers(0, 256, (20, side, side), dtype=np.uint8)
    data = from_raw("squares", pixels, np.arange(20) % 3)
    run = Run.create(tmp_path / "run", data=data, net={"kind": "unet", **settings}, batch=4)
    with pytest.raises(ValueError, match=f"^{name}: "):
        imported.export(run, tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_a_network_for_points_is_not_exported(tmp_path):
    run = Run.create(tmp_path / "run", data="moons", batch=4, width=8)
    with pytest.raises(ValueError, match="only a U-Net can be exported"):
        imported.export(run, tmp_path / "exported")


def test_every_schedule_of_a_run_comes_back_from_what_it_is_exported_as(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)
    options = [
        dict(schedule="linear", beta_end=0.03),
        dict(schedule="quadratic", beta_start=0.001),
        dict(schedule="cosine"),
        dict(schedule="sigmoid"),
        dict(schedule="constant", beta=0.02, T=100),
        dict(schedule="linear", zero_terminal_snr=True, prediction="v"),
        dict(schedule="constant", beta=0.02, zero_terminal_snr=True, prediction="x0"),
    ]
    for number, given in enumerate(options):
        data, folder = from_raw("squares", pixels), tmp_path / f"{number}"
        net = {"kind": "unet", **SMALL, "learned_variance": number % 2 == 1}
        run = Run.create(folder / "run", data=data, net=net, batch=4, **given)
        imported.export(run, folder / "exported")
        again = imported.create(weights.read(folder / "exported"), folder / "again")
        np.testing.assert_array_equal(again.schedule.beta, run.schedule.beta)
        assert again.settings.training.prediction == run.settings.training.prediction
        assert again.net.learned_variance == run.net.learned_variance
        opened = Run.open(folder / "again")
        np.testing.assert_array_equal(opened.schedule.beta, run.schedule.beta)


def test_whether_x0_is_clipped_is_kept(tmp_path):
    for name, clip in (("velocity", None), ("tutorial", (-1, 1))):
        run = imported.create(weights.read(FOLDER / name), tmp_path / name)
        assert Run.open(run.folder).denoiser().clip == clip
        imported.export(run, tmp_path / f"{name}-exported")
        config = json.loads((tmp_path / f"{name}-exported/scheduler/scheduler_config.json").read_text())
        assert config["clip_sample"] == (clip is not None)


def test_an_exported_folder_has_the_files_that_a_pipeline_has(run):
    folder = run.parent / "exported"
    assert main(["export", str(run), "--to", str(folder)]) == 0
    saved = {
        path.relative_to(FOLDER / "tutorial") for path in (FOLDER / "tutorial").rglob("*.*") if path.is_file()
    }
    made = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    assert made == saved - {Path("expected.npz")}
    assert json.loads((folder / "model_index.json").read_text())["_class_name"] == "DDPMPipeline"
    assert nn.describe(weights.read(folder).net) == nn.describe(weights.read(FOLDER / "paper").net)
