"""Several processes over MPI: the bits of one, and an end with a reason whatever goes wrong. Skipped without mpi4py."""

import os
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from mpi_launch import ENVIRONMENT, SECONDS, command, faulty, launch, needs_mpi, started, thorough, two_hosts

from minidiff import cli
from minidiff.runs import Run

pytestmark = needs_mpi

TINY = ["--width", "8", "--batch", "8", "--T", "3", "--shards", "4", "--preview", "0"]
EVERYTHING = [
    *(
        "--classes",
        "--learn-variance",
        "--times",
        "loss-aware",
        "--prediction",
        "v",
        "--weighting",
        "min-snr",
    ),
    *("--label-drop", "0.5", "--flip", "--T", "2", "--width", "8", "--preview", "0"),
]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A file of 20 images of 4 × 4 bytes, in two classes."""
    path = tmp_path_factory.mktemp("data") / "images.npz"
    images = np.random.default_rng(0).integers(0, 256, (20, 4, 4), np.uint8)
    np.savez(path, images=images, labels=np.arange(20) % 2)
    return path


@pytest.fixture(scope="module")
def points(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "points.npy"
    np.save(path, np.random.default_rng(0).normal(size=(60, 2)))
    return path


def alone(*arguments):
    assert cli.main([str(argument) for argument in arguments]) == 0


def checkpoint(folder):
    return (folder / "checkpoint.npz").read_bytes()


def status_of(ended, status):
    assert ended.status == status, ended
    assert "Traceback" not in ended.err, ended.err


# ---- the same bits


def assert_trains_alike(data, folder, options, stages):
    """Training in stages (processes, steps) by several processes ends with the checkpoint of one."""
    *_, (_, steps) = stages
    alone("train", data, *options, "--steps", steps, "--out", folder / "alone")
    (processes, steps), *rest = stages
    ended = command(processes, "train", data, *options, "--steps", steps, "--out", folder / "run")
    status_of(ended, 0)
    assert ended.out.count("parameters →") == 1  # rank 0 alone prints
    for processes, steps in rest:
        status_of(command(processes, "train", "--resume", folder / "run", "--steps", steps), 0)
    assert checkpoint(folder / "run") == checkpoint(folder / "alone")


def test_two_processes_train_as_one_and_one_goes_on_as_two(images, tmp_path):
    options = [*EVERYTHING, "--dropout", "0.3", "--batch", "19", "--shards", "5"]
    assert_trains_alike(images, tmp_path, options, [(2, 4), (1, 6)])


@thorough
@pytest.mark.parametrize("shards", [4, 5, 8])
@pytest.mark.parametrize(
    "stages", [[(1, 6)], [(2, 6)], [(3, 6)], [(4, 6)], [(3, 2), (1, 4), (4, 6)]], ids=str
)
def test_any_number_of_processes_trains_as_one(stages, shards, images, tmp_path):
    options = [*EVERYTHING, "--dropout", "0.3", "--batch", "19", "--shards", shards]
    assert_trains_alike(images, tmp_path, options, stages)


@pytest.fixture(scope="module")
def run(points, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    alone("train", points, *TINY, "--steps", 4, "--out", folder)
    return folder


@pytest.mark.parametrize(
    "processes", [pytest.param(n, marks=() if n == 3 else thorough) for n in (2, 3, 4, 5)]
)
def test_any_number_of_processes_samples_as_one(processes, run, tmp_path):
    alone("sample", run, "--count", 5000, "--out", tmp_path / "1.npz")
    status_of(command(processes, "sample", run, "--count", 5000, "--out", tmp_path / "n.npz"), 0)
    first, second = (np.load(tmp_path / f"{count}.npz")["samples"] for count in "1n")
    np.testing.assert_array_equal(first, second)


@thorough
@pytest.mark.parametrize("options", [[], ["--compare", "ddim", "ddpm"]])
def test_evaluations_are_those_of_one_process(options, run):
    file = run / ("comparison.json" if options else "evaluation.json")
    alone("evaluate", run, "--count", 5000, *options)
    expected = file.read_bytes()
    file.unlink()
    status_of(command(3, "evaluate", run, "--count", 5000, *options), 0)
    assert file.read_bytes() == expected


# ---- what goes wrong


def trained(fault, rank, points, folder, steps=20, **options):
    return faulty(fault, rank, "train", points, *TINY, "--steps", steps, "--out", folder, **options)


@pytest.mark.parametrize("rank", [0, pytest.param(1, marks=thorough)])
def test_a_process_that_raises_ends_all_with_its_reason(rank, points, tmp_path):
    ended = trained("raise", rank, points, tmp_path / "run")
    status_of(ended, 1)
    *_, line = ended.err.splitlines()
    assert re.fullmatch(r"minidiff: (rank 1 of 2, on \S+: )?a fault", line) and ("rank 1" in line) == rank
    assert Run.open(tmp_path / "run").step == 0


@thorough
def test_a_process_that_leaves_with_status_0_is_noticed(points, tmp_path):
    ended = trained("leave", 1, points, tmp_path / "run")
    status_of(ended, 1)
    assert re.search(r"minidiff: rank 1 of 2, on \S+: has ended, while others wait for it\n$", ended.err)


@pytest.mark.parametrize("rank", [1, pytest.param(0, marks=thorough)])
def test_a_process_that_hangs_is_named_and_then_ends_all(rank, points, tmp_path):
    ended = trained("hang", rank, points, tmp_path / "run")
    assert ended.status not in (0, None)
    assert re.search(rf"rank {1 - rank} of 2, on \S+: waiting for rank {rank} of 2", ended.err)
    assert re.search(rf"minidiff: .*waited \d+ s for rank {rank} of 2", ended.err)
    assert Run.open(tmp_path / "run").step == 0


def test_a_process_that_is_killed_ends_all_and_leaves_a_checkpoint(points, tmp_path):
    assert trained("kill", 1, points, tmp_path / "run").status != 0
    assert Run.open(tmp_path / "run").step == 0
    alone("train", "--resume", tmp_path / "run", "--steps", 2)  # nothing holds its lock


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=thorough)])
def test_a_signal_to_one_process_stops_all_and_saves(number, points, tmp_path):
    fault = {signal.SIGINT: "interrupt", signal.SIGTERM: "terminate"}[number]
    ended = trained(fault, 1, points, tmp_path / "run")
    status_of(ended, 130)
    assert "stopped after step 4, saved; resume with: minidiff train --resume" in ended.out
    assert Run.open(tmp_path / "run").step == 4


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=thorough)])
def test_a_signal_to_mpiexec_stops_all_and_saves(number, points, tmp_path):
    arguments = ["train", points, *TINY, "--steps", 10**6, "--out", tmp_path / "run"]
    with started(2, "-m", "minidiff", *arguments) as process:
        assert process.stderr.readline().startswith("step 1/")
        process.send_signal(number)
        process.communicate(timeout=SECONDS)
    assert process.returncode != 0
    assert Run.open(tmp_path / "run").step > 0


def test_weights_that_differ_end_the_training(points, tmp_path):
    ended = trained("drift", 1, points, tmp_path / "run")
    status_of(ended, 1)
    assert re.search(r"\nminidiff: weights after step 5: rank 1 of 2, on \S+ has \d+, rank 0 of 2", ended.err)


@thorough
def test_nan_in_one_process_stops_all(points, tmp_path):
    ended = trained("nan", 1, points, tmp_path / "run")
    status_of(ended, 1)
    assert "the loss is nan" in ended.err and "keeps its checkpoint of step 0" in ended.err


def test_a_full_disk_ends_all_with_the_last_checkpoint(points, tmp_path):
    ended = trained("full", 0, points, tmp_path / "run")
    status_of(ended, 1)
    assert ended.err.endswith("checkpoint.npz: No space left on device\n")
    assert Run.open(tmp_path / "run").step == 0


@thorough
def test_other_data_is_refused_before_the_first_step(points, tmp_path):
    ended = trained("other data", 1, points, tmp_path / "run")
    status_of(ended, 1)
    assert re.search(r"^minidiff: data: rank 1 of 2, on \S+ has \w+, rank 0", ended.err)
    assert not (tmp_path / "run").exists()


@thorough
def test_a_mistake_is_printed_once_and_its_status_is_that_of_one_process(points, tmp_path):
    for words, status, line in [
        (
            ["train", points, "--shards", "0"],
            2,
            "minidiff: train: argument --shards: expected an integer ≥ 1, got 0",
        ),
        (["train", "nothing"], 2, "minidiff: no data set is called 'nothing'"),
        (["info", tmp_path], 2, "minidiff: info takes one process: leave out mpiexec"),
        (["sample", tmp_path], 1, f"minidiff: {tmp_path} is not a run"),
        (
            ["train", points, "--out", tmp_path / "run"],
            1,
            "minidiff: expected at most as many processes as shards",
        ),
    ]:
        ended = command(2, *words)
        status_of(ended, status)
        assert ended.out == "" and ended.err.count("\n") == 1 and ended.err.startswith(line), ended.err


# ---- launchers


def single(*words, **environment):
    return subprocess.run(
        [sys.executable, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env=os.environ | ENVIRONMENT | environment,
        check=False,
    )


def test_the_mpiexec_of_another_mpi_is_refused(run):
    ended = single(
        "-m", "minidiff", "sample", run, OMPI_COMM_WORLD_SIZE="2", OMPI_COMM_WORLD_RANK="0", PMI_SIZE="1"
    )
    assert ended.returncode == 1 and ended.stderr.count("\n") == 1
    assert ended.stderr.startswith("minidiff: mpiexec started 2 processes, and each found 1: mpi4py uses ")


# Rank 0 alone prints: mpiexec does not keep the lines of several apart.
THREADS = """
from minidiff.kernels import pool, threads
from minidiff.runs import mpi
comm = mpi.world()
threads.start()
sizes = comm.gather(pool.size())
if comm.rank == 0:
    print(*sizes)
"""


def test_processes_on_one_host_divide_its_cores():
    cores = sorted(os.sched_getaffinity(0))
    ended = launch(2, "-c", THREADS)
    assert ended.out.split() == [str(max(1, len(cores) // 2))] * 2, ended
    ended = launch(2, "-c", THREADS, NUMBA_NUM_THREADS="3")  # given by hand
    assert ended.out.split() == ["3", "3"], ended


@thorough
def test_a_process_that_the_launcher_bound_keeps_its_cores():
    cores = sorted(os.sched_getaffinity(0))
    bind = f"import os; cores = {cores}; os.sched_setaffinity(0, [cores[int(os.environ['PMI_RANK']) % len(cores)]]); "
    ended = launch(2, "-c", bind + THREADS)
    assert ended.out.split() == ["1", "1"], ended


@thorough
@pytest.mark.skipif(
    not shutil.which("ip") or os.geteuid() != 0, reason="network namespaces need root, and ip"
)
def test_two_hosts_train_as_one(images, tmp_path):
    arguments = ["train", images, *EVERYTHING, "--batch", "19", "--shards", "4", "--steps", 5]
    alone(*arguments, "--out", tmp_path / "alone")
    with two_hosts(tmp_path) as (mpiexec, traffic):
        before = traffic()
        tcp = {
            "UCX_TLS": "tcp,self",
            "FI_PROVIDER": "tcp",
        }  # the hosts share memory, which other hosts do not
        ended = launch(2, "-m", "minidiff", *arguments, "--out", tmp_path / "run", mpiexec=mpiexec, **tcp)
        status_of(ended, 0)
        sent = traffic() - before
    assert checkpoint(tmp_path / "run") == checkpoint(tmp_path / "alone")
    gradient = 4 * Run.open(tmp_path / "run").net.count_parameters()
    assert 5 * gradient <= sent < 15 * gradient + 10**6  # 2 (P − 1) / P vectors a step, and messages
