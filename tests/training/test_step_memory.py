"""The estimated memory of a training step beside the measured, and the refusal of a step that does not fit."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minidiff import memory, nn, schedules
from minidiff.training import Trainer, TrainingOptions
from minidiff.training.step_memory import in_words, require_memory, step_memory

SMALL = dict(channels=3, width=32, depth=1, groups=8, dropout=0.0)
NETWORKS = {
    "small, 32 pixels": (dict(size=32, multipliers=(1, 2, 2), attention=(8,), **SMALL), dict(batch=16)),
    "small, 8 pixels": (dict(size=8, multipliers=(1, 2), attention=(4,), **SMALL), dict(batch=200)),
    "one level": (dict(size=20, multipliers=(1,), attention=(20,), **SMALL), dict(batch=12)),
    "oblong": (dict(size=(65, 40), multipliers=(1, 1, 2, 2), attention=(9,), **SMALL), dict(batch=6)),
    "large": (dict(size=128, multipliers=(1, 1, 2, 2), attention=(16,), **SMALL), dict(batch=3)),
    "deep, with dropout": (dict(size=16, width=32, depth=3, dropout=0.1, attention=(8,)), dict(batch=32)),
    "wide": (dict(size=8, width=128, multipliers=(1, 2), depth=1, attention=(4,)), dict(batch=16)),
    "in shards": (dict(size=16, width=64, multipliers=(1, 2), depth=1, groups=8), dict(batch=32, shards=3)),
    "mlp": (dict(dim=2, width=128), dict(batch=100_000)),
}


def trainer(settings, options):
    rng = np.random.default_rng(0)
    net = nn.MLP(rng, **settings) if "dim" in settings else nn.UNet(rng, **settings)
    x = rng.standard_normal((4, *(net.shape if isinstance(net, nn.UNet) else (2,))), dtype=np.float32)
    return Trainer(net, schedules.linear(), x, options=TrainingOptions(**options), rng=rng)


# For each network: a small step, which compiles, then two whose growth is measured. Each in a thread of its own, which
# begins and ends without a pool of buffers; and memory that is given back leaves the process at once.
PROGRAM = """
import gc
from pathlib import Path
from threading import Thread
from test_step_memory import NETWORKS, status, trainer

def steps(settings, options, count):
    thread = Thread(target=lambda: list(trainer(settings, options).run(count)))
    thread.start()
    thread.join()
    gc.collect()

for name, (settings, options) in NETWORKS.items():
    steps(settings, {"batch": 4}, 1)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is in use
    before = status("VmRSS")
    steps(settings, options, 2)
    print(name, status("VmHWM") - before, sep=": ", flush=True)
"""


def status(name):
    """A number of bytes in what Linux says of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


@pytest.mark.compiled
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="measured as Linux says it")
def test_the_estimate_is_right_to_30_percent():
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    environment = os.environ | {"PYTHONPATH": path, "MALLOC_MMAP_THRESHOLD_": "65536"}
    run = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
    measured = dict(line.split(": ") for line in run.stdout.splitlines())
    assert measured.keys() == NETWORKS.keys(), run.stderr
    ratios = {}
    for name, (settings, options) in NETWORKS.items():
        made = trainer(settings, options)
        ratios[name] = step_memory(made.net, made.options) / int(measured[name])
    assert all(1 / 1.3 < ratio < 1.3 for ratio in ratios.values()), ratios


# ---- the refusal

NET = nn.UNet(np.random.default_rng(0), size=32, multipliers=(1, 2, 2), attention=(8,), **SMALL)
WHOLE = TrainingOptions(batch=64)


def refusal(monkeypatch, free, options=WHOLE):
    monkeypatch.setattr(memory, "available", lambda: free)
    with pytest.raises(MemoryError) as caught:
        require_memory(NET, options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_step_that_does_not_fit_is_refused_with_what_fits(monkeypatch):
    needed = step_memory(NET, WHOLE)
    message = refusal(monkeypatch, 0.4 * needed)
    assert message == (
        f"a step with batch 64 needs about {in_words(needed)} of memory, and {in_words(0.4 * needed)} are free: "
        "free some, or make a run with --batch 16 or --shards 4 or a smaller --width"
    )
    for fitting in (TrainingOptions(batch=16), TrainingOptions(batch=64, shards=4)):
        require_memory(NET, fitting)
    for larger in (TrainingOptions(batch=32), TrainingOptions(batch=64, shards=2)):
        assert "are free" in refusal(monkeypatch, 0.4 * needed, larger)


def test_where_not_even_one_sample_fits_only_the_width_is_named(monkeypatch):
    assert refusal(monkeypatch, 1e6).endswith("are free: free some, or make a run with a smaller --width")


def test_a_step_that_just_fits_is_not_refused(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: step_memory(NET, WHOLE))
    require_memory(NET, WHOLE)


def test_the_trainer_refuses_before_it_allocates(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 6e7)
    monkeypatch.setattr(nn, "ParameterVector", lambda net: pytest.fail("allocated"))
    with pytest.raises(MemoryError, match=r"make a run with .*--shards"):
        trainer(*NETWORKS["small, 32 pixels"])


def test_a_network_that_counts_no_activations_is_estimated_by_its_parameters():
    class Mine(nn.Network):
        def __init__(self, rng):
            self.layer = nn.Linear(rng, 2, 2)

    assert step_memory(Mine(np.random.default_rng(0)), WHOLE) == 4 * 5 * 6


@pytest.mark.parametrize(
    ("size", "words"), [(1.234e6, "1 MB"), (9.994e8, "999 MB"), (1e9, "1.0 GB"), (72.04e9, "72.0 GB")]
)
def test_a_size_in_words(size, words):
    assert in_words(size) == words
