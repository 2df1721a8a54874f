"""Several processes make what one makes, to the last bit. Threads stand in for processes here, so no MPI is needed."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_runs import OPTIONS, UNET, create
from threads_as_processes import in_threads

from minidiff.communicator import SINGLE
from minidiff.datasets.dataset import from_raw
from minidiff.diffusion import generation
from minidiff.diffusion.generation import Recipe
from minidiff.runs import Run
from minidiff.training import Diverged
from minidiff.training.shards import add_as_tree, subtrees

EVERYTHING = dict(
    net=UNET | {"classes": 2, "dropout": 0.3, "learned_variance": True},
    times="loss-aware",
    prediction="v",
    weighting="min-snr",
    label_drop=0.5,
    flip=True,
    T=2,
    batch=19,
)

# ---- sums


def add_up(vectors, comm, kept=None):
    """The sum of the vectors as shards of a batch are added, and what each shard returned."""
    gradients = np.zeros(vectors.shape[1], np.float32)
    mine = []

    def term(shard):
        mine.append(shard)
        np.add(gradients, vectors[shard], out=gradients)
        return f"of shard {shard}"

    results = add_as_tree(term, len(vectors), gradients, comm)
    return gradients.tobytes(), results, mine


@given(st.integers(1, 24), st.integers(1, 7), st.integers(1, 40), st.integers(0, 2**32))
def test_a_sum_has_the_same_bits_by_any_number_of_processes(shards, processes, length, seed):
    rng = np.random.default_rng(seed)
    vectors = (rng.standard_normal((shards, length)) * 10 ** rng.uniform(-6, 6, (shards, 1))).astype(
        np.float32
    )
    processes = min(shards, processes)
    total, results, _ = add_up(vectors, SINGLE)
    of_all = in_threads(processes, lambda comm: add_up(vectors, comm))
    assert [of_rank[:2] for of_rank in of_all] == [(total, results)] * processes
    assert [shard for *_, mine in of_all for shard in mine] == [*range(shards)]
    counts = [len(mine) for *_, mine in of_all]
    assert max(counts) - min(counts) <= 1


@given(st.integers(1, 200), st.data())
def test_a_range_of_shards_is_cut_into_few_subtrees(shards, data):
    begin = data.draw(st.integers(0, shards - 1))
    own = range(begin, data.draw(st.integers(begin + 1, shards)))
    found = list(subtrees(range(shards), own))
    assert [shard for subtree in found for shard in subtree] == [*own]
    assert max(Counter(map(len, found)).values()) <= 4 and len(found) <= 2 * shards.bit_length()


@pytest.mark.parametrize("processes", [2, 4, 8])
def test_where_both_are_powers_of_two_each_process_sends_one_vector(processes):
    work = lambda comm: len(list(subtrees(range(16), comm.own(16))))  # noqa: E731
    assert in_threads(processes, work) == [1] * processes


# ---- what all of them have


def test_what_rank_0_does_all_have_or_raise():
    def work(comm):
        done = []
        first = comm.broadcast(lambda: done.append(1) or "a result")
        own = comm.on_root(lambda: done.append(2) or "a file")
        return first, own, done

    assert in_threads(3, work) == [("a result", "a file", [1, 2]), *[("a result", None, [])] * 2]

    def fail(comm):
        with pytest.raises(ValueError, match="of rank 0"):
            comm.broadcast(lambda: int("of rank 0"))
        with pytest.raises(FileNotFoundError):
            comm.on_root(lambda: Path("no such file").stat())
        return comm.any(comm.rank == 2), comm.any(False)

    assert in_threads(3, fail) == [(True, False)] * 3


def test_a_fact_that_is_not_the_same_on_all_is_an_error_on_all():
    work = lambda comm: comm.require_equal({"seed": 1, "data": "a" if comm.rank < 2 else "b"})  # noqa: E731
    for error in in_threads(3, work):
        assert isinstance(error, ValueError)
        assert str(error).startswith("data: rank 2 of 3 has b, rank 0 of 3 has a; expected the same")


# ---- training


def train(folder, data, comm, steps, **options):
    """A run trained by several processes, new or resumed."""
    run = (
        Run.resume(folder, comm=comm)
        if Path(folder).exists()
        else Run.create(folder, data=data, comm=comm, **OPTIONS | EVERYTHING | options)
    )
    run.train(steps, progress=None, preview=0)
    return run.step


def files_of(folder):
    """The bytes of the checkpoint, and of the metrics without their seconds."""
    rows = [json.loads(line) | {"seconds": 0} for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return (folder / "checkpoint.npz").read_bytes(), rows, (folder / "settings.json").read_bytes()


@pytest.mark.parametrize("shards", [5, 8])
def test_a_run_has_the_same_bits_by_any_number_of_processes(shards, labelled_images, tmp_path):
    train(tmp_path / "1", labelled_images, SINGLE, 6, shards=shards)
    expected = files_of(tmp_path / "1")
    # Something was learned
    assert len(np.unique(np.load(tmp_path / "1" / "checkpoint.npz")["adam/first/last.w"])) > 1
    for processes in (2, 3, 5):
        folder = tmp_path / str(processes)
        assert (
            in_threads(processes, lambda comm, to=folder: train(to, labelled_images, comm, 6, shards=shards))
            == [6] * processes
        )
        assert files_of(folder) == expected


def test_a_run_is_resumed_by_another_number_of_processes(labelled_images, tmp_path):
    train(tmp_path / "1", labelled_images, SINGLE, 9, shards=4)
    folder = tmp_path / "run"
    for processes, steps in ((3, 3), (1, 5), (4, 9)):
        work = lambda comm, n=steps: train(folder, labelled_images, comm, n, shards=4)  # noqa: E731
        assert in_threads(processes, work) == [steps] * processes
    assert files_of(folder) == files_of(tmp_path / "1")


def test_more_processes_than_shards_are_refused_and_nothing_is_left(source, tmp_path):
    for error in in_threads(3, lambda comm: create(tmp_path / "run", source, shards=2, comm=comm)):
        assert isinstance(error, ValueError)
        assert str(error).startswith(
            "expected at most as many processes as shards, got 3 processes and shards 2"
        )
    assert not (tmp_path / "run").exists()


def test_what_one_process_alone_cannot_do_ends_all_and_nothing_is_left(source, tmp_path):
    def work(comm):
        return create(
            tmp_path / "run", source if comm.rank == 0 else tmp_path / "no file", shards=2, comm=comm
        )

    first, second = in_threads(2, work)
    assert isinstance(first, RuntimeError) and isinstance(second, FileNotFoundError)
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_taken_is_refused_by_all(source, run):
    for error in in_threads(2, lambda comm: create(run.folder, source, shards=2, comm=comm)):
        assert isinstance(error, FileExistsError)
    assert Run.open(run.folder).step == 0


@pytest.mark.parametrize("difference", ["seed", "data", "options"])
def test_processes_that_differ_do_not_begin(difference, tmp_path):
    x = np.random.default_rng(0).normal(size=(40, 2))

    def work(comm):
        other = comm.rank == 1
        data = from_raw("points", x + (other and difference == "data"))
        return create(
            tmp_path / "run",
            data,
            comm=comm,
            shards=2,
            seed=int(other and difference == "seed"),
            lr=0.02 if other and difference == "options" else 0.01,
        )

    for error in in_threads(2, work):
        assert isinstance(error, ValueError) and "expected the same on all processes" in str(error)
    assert not (tmp_path / "run").exists()


def test_weights_that_drift_apart_end_the_training(source, tmp_path, monkeypatch):
    monkeypatch.setattr("minidiff.training.trainer.CHECK_EVERY", 4)

    def work(comm):
        run = create(tmp_path / "run", source, comm=comm, shards=2)
        if comm.rank:
            run.trainer.parameters.values[3] += 1e-6
        run.train(10, progress=None, preview=0)

    for error in in_threads(2, work):
        assert isinstance(error, ValueError) and str(error).startswith(
            "weights after step 4: rank 1 of 2 has"
        )
    assert Run.open(tmp_path / "run").step == 0


def test_nan_in_one_process_is_divergence_in_all(source, tmp_path):
    def work(comm):
        run = create(tmp_path / "run", source, comm=comm, shards=2)
        run.train(2, progress=None, preview=0)
        loss = run.trainer._loss
        if comm.rank:
            run.trainer._loss = lambda batch, rng: loss(batch._replace(x0=batch.x0 * np.float32("nan")), rng)
        run.train(4, progress=None, preview=0)

    for error in in_threads(2, work):
        assert isinstance(error, Diverged)
    assert Run.open(tmp_path / "run").step == 2


def test_whichever_process_is_to_stop_all_stop_after_the_same_step(source, tmp_path):
    def work(comm):
        run = create(tmp_path / "run", source, comm=comm, shards=2)
        return [step.step for step in run.train_iter(50, stop=lambda: comm.rank == 1 and run.step == 7)]

    assert in_threads(2, work) == [[*range(1, 8)]] * 2


# ---- sampling


@pytest.mark.parametrize("processes", [2, 3, 5])
def test_samples_are_the_same_by_any_number_of_processes(processes, run):
    denoiser, recipe = run.denoiser(), Recipe("ddpm")
    draw = lambda comm: generation.generate(  # noqa: E731
        denoiser, (2,), 5000, np.random.default_rng(3), recipe, comm=comm
    )
    expected = draw(SINGLE)
    samples, *others = in_threads(processes, draw)
    np.testing.assert_array_equal(samples, expected)
    assert [x.shape for x in others] == [(0, 2)] * (processes - 1)


def test_a_run_that_several_opened_samples_as_one_does(run):
    expected = run.sample(4100)
    first, *_ = in_threads(3, lambda comm: Run.open(run.folder, comm=comm).sample(4100))
    np.testing.assert_array_equal(first, expected)
