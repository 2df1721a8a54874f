"""Small trainers of every kind, and how two of them are compared."""

import numpy as np

from minidiff import checkpoints, nn, schedules
from minidiff.training import Trainer, TrainingOptions

SCHEDULE = schedules.linear(6, 0.05, 0.5)
POINTS = np.random.default_rng(7).standard_normal((10, 2), dtype=np.float32)
IMAGES = np.random.default_rng(8).uniform(-1, 1, (5, 4, 4, 1)).astype(np.float32)
UNET = dict(size=4, channels=1, width=8, multipliers=(1,), depth=1, groups=4)
NEVER = 1e30  # a limit of the gradient's norm that is never reached


def on_points(seed=0, labels=None, learned_variance=False, **options):
    rng = np.random.default_rng(seed)
    net = nn.MLP(rng, dim=2, width=8, depth=2, T=6, learned_variance=learned_variance)
    options = TrainingOptions(**{"batch": 4, "lr": 0.01, "warmup": 4} | options)
    return Trainer(net, SCHEDULE, POINTS, labels, options, rng=rng)


def on_labelled_points(seed=0, **options):
    rng = np.random.default_rng(seed)
    net = nn.MLP(rng, dim=2, width=8, depth=2, T=6, classes=3)
    options = TrainingOptions(**{"batch": 3, "warmup": 4, "times": "uniform"} | options)
    return Trainer(net, SCHEDULE, POINTS, np.arange(10) % 3, options, rng=rng)


def on_images_with_dropout(seed=0):
    rng = np.random.default_rng(seed)
    net = nn.UNet(rng, **UNET, dropout=0.3, classes=2)
    options = TrainingOptions(batch=3, warmup=2)
    return Trainer(net, SCHEDULE, IMAGES, np.arange(5) % 2, options, rng=rng)


def on_images_with_everything_learned(seed=0):
    """Learned variance, loss-aware times, dropped labels: the trainer with the largest state."""
    rng = np.random.default_rng(seed)
    net = nn.UNet(rng, **UNET, classes=2, learned_variance=True)
    options = TrainingOptions(
        batch=9, warmup=2, times="loss-aware", prediction="v", weighting="min-snr", label_drop=0.5
    )
    return Trainer(net, schedules.linear(2), IMAGES, np.arange(5) % 2, options, rng=rng)


def on_mirrored_images(seed=0, **options):
    rng = np.random.default_rng(seed)
    options = TrainingOptions(**{"batch": 4, "warmup": 2, "flip": True} | options)
    return Trainer(nn.UNet(rng, **UNET, dropout=0.0), SCHEDULE, IMAGES, None, options, rng=rng)


MAKERS = [
    on_points,
    on_labelled_points,
    on_images_with_dropout,
    on_images_with_everything_learned,
    on_mirrored_images,
]


def assert_same(a, b):
    """Both trainers, or states of trainers, are the same to the last bit."""
    first, second = (item if isinstance(item, dict) else item.state() for item in (a, b))
    assert first.keys() == second.keys()
    for section, (facts, arrays) in first.items():
        other_facts, other_arrays = second[section]
        assert facts == other_facts and arrays.keys() == other_arrays.keys(), section
        for name, array in arrays.items():
            assert array.dtype == other_arrays[name].dtype
            np.testing.assert_array_equal(array, other_arrays[name], err_msg=f"{section}/{name}")


def through_a_file(trainer, path):
    """The state of a trainer, as a checkpoint returns it."""
    state = trainer.state()
    checkpoints.write(path, state)
    return checkpoints.read(path, set(state))[0]
