"""A run that version 0.1 made: it opens, samples, resumes, and is saved as version 2 (see version_0_1/README.md).

The expected numbers are those of version 0.1. Other CPUs, and the reference kernels, sum in another order.
"""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from small_runs import contents

from minidiff import checkpoints
from minidiff.diffusion.generation import Recipe, generate
from minidiff.diffusion.guidance import Conditioning
from minidiff.runs import Run, Settings
from minidiff.runs.reopening import SECTIONS
from minidiff.training import ScheduleOptions, TrainingOptions

FOLDER = Path(__file__).parent / "version_0_1"
DIGEST = "aefd685347e4e9cd49e5c9f0200e1d58604a78d8ad6216ae13747bfa040511fd"
CLOSE = dict(rtol=1e-4, atol=1e-4)
ANCESTRAL = Recipe("ddpm", options={"variance": "learned"})

SETTINGS = Settings(
    data="digits",
    net=dict(
        kind="unet",
        size=8,
        channels=1,
        width=8,
        multipliers=[1],
        depth=1,
        attention=[],
        groups=4,
        dropout=0.1,
        classes=10,
        learned_variance=True,
    ),
    schedule=ScheduleOptions("cosine", T=20, zero_terminal_snr=True),
    training=TrainingOptions(
        batch=16, lr=0.002, warmup=10, times="loss-aware", prediction="v", label_drop=0.1
    ),
    seed=4,
)


@pytest.fixture
def folder(tmp_path):
    """A copy of the run, since resuming writes to it."""
    return Path(shutil.copytree(FOLDER / "run", tmp_path / "run"))


@pytest.fixture(scope="module")
def expected():
    with np.load(FOLDER / "expected.npz") as archive:
        return dict(archive)


def assert_training_as_expected(run, expected):
    losses = [step.loss for step in run.train_iter(303)]
    np.testing.assert_allclose(losses, expected["losses"], **CLOSE)
    state = run.trainer.state()
    np.testing.assert_allclose(state["ema"][1]["first.w"], expected["ema_first"], **CLOSE)
    np.testing.assert_allclose(state["parameters"][1]["last.w"], expected["parameters_last"], **CLOSE)


def test_it_is_a_file_of_format_1(folder):
    with np.load(FOLDER / "run" / "checkpoint.npz") as archive:
        assert b'"version": 1,' in archive["facts.json"].tobytes()
        assert {name.split("/")[0] for name in archive.files} == {
            *("parameters", "average", "first", "second", "order", "losses", "facts.json")
        }
    assert checkpoints.read(folder / "checkpoint.npz", SECTIONS)[1] == "minidiff 0.1"


def test_it_opens_with_its_settings_and_nothing_in_its_folder_changes(folder):
    before = contents(folder)
    run = Run.open(folder)
    assert run.settings == SETTINGS
    assert (run.step, run.shape, run.variance, run.net.classes) == (300, (8, 8, 1), "learned", 10)
    assert run.schedule.T == 20 and run.schedule.alpha_bar[-1] == 0
    assert (run.units.offset, run.units.scale) == (8, 8)
    assert [row["step"] for row in run.metrics()][-2:] == [300, 303]
    run.sample(1, recipe=Recipe("ddim", 2))
    assert contents(folder) == before


def test_it_samples_what_version_0_1_did(folder, expected):
    run = Run.open(folder)
    samples = generate(run.denoiser(Conditioning(3)), run.shape, 4, np.random.default_rng(1), ANCESTRAL)
    assert samples.std() > 0.3
    np.testing.assert_allclose(samples, expected["samples"], **CLOSE)
    again = run.sample(4, Conditioning(3), ANCESTRAL, seed=1)
    np.testing.assert_array_equal(again, run.units.to_units(samples))


def test_it_resumes_as_version_0_1_did(folder, expected):
    run = Run.resume(folder)
    assert run.settings == SETTINGS and run.step == 300
    assert [row["step"] for row in run.metrics()][-1] == 300  # steps after the checkpoint are made again
    assert_training_as_expected(run, expected)
    assert [row["step"] for row in run.metrics()][-2:] == [300, 303]


def test_once_saved_it_is_of_version_2_and_resumes_to_the_same(folder, expected):
    Run.resume(folder).save()
    with np.load(folder / "checkpoint.npz") as archive:
        assert b'"version": 2,' in archive["facts.json"].tobytes()
        assert "ema/first.w" in archive.files and "average/first.w" not in archive.files
    assert checkpoints.read(folder / "checkpoint.npz", SECTIONS)[1] != "minidiff 0.1"
    assert Run.open(folder).settings == SETTINGS
    assert_training_as_expected(Run.resume(folder), expected)


def test_the_stored_run_is_the_one_that_version_0_1_wrote():
    stored = contents(FOLDER / "run")
    assert stored.keys() == {"settings.json", "metrics.jsonl", "checkpoint.npz"}
    assert hashlib.sha256(stored["checkpoint.npz"]).hexdigest() == DIGEST
