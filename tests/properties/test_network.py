"""What the documents say of networks and of their use: ledger V10, S6, S9 and S11."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidiff import datasets, metrics, nn, schedules
from minidiff.denoiser import Denoiser
from minidiff.oracles import Gaussian
from minidiff.samplers import SPACINGS, ddim, final, initial_noise
from minidiff.samplers.ancestral import steps as ddpm_steps
from minidiff.samplers.ddim import steps as ddim_steps
from minidiff.training import Trainer

SHORT = schedules.linear(100, 1e-3, 0.1)


def awake(net):
    """A network whose every parameter counts; the output layers of a new U-Net are zero."""
    rng = np.random.default_rng(1)
    values = nn.ParameterVector(net).values
    values += rng.normal(0, 0.1, values.shape).astype(values.dtype)
    return net


def networks():
    rng = np.random.default_rng(0)
    small = dict(
        size=8, channels=1, width=8, multipliers=(1, 2), depth=1, attention=(4,), groups=4, dropout=0.0
    )
    return {
        "embedding": (awake(nn.MLP(rng, dim=2, width=16, T=100)), (2,)),
        "sinusoidal": (awake(nn.MLP(rng, dim=2, width=16, T=100, time="sinusoidal")), (2,)),
        "unet": (awake(nn.UNet(rng, **small)), (8, 8, 1)),
    }


NETWORKS = networks()


def sampled(trainer, label=None, count=1000):
    """Deterministic samples of the averaged network in 20 steps."""
    denoiser = Denoiser(trainer.average, trainer.schedule, label=label)
    x_T = initial_noise(np.random.default_rng(1), (count, *trainer.x.shape[1:]))
    return final(ddim(denoiser, x_T, np.random.default_rng(2), SPACINGS["quadratic"](trainer.schedule.T, 20)))


# ---- V10


@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=10)
@given(times=st.lists(st.integers(1, 100), min_size=4, max_size=4), other=st.integers(1, 100))
def test_V10_every_sample_of_a_batch_is_seen_at_a_time_of_its_own(name, times, other):
    net, shape = NETWORKS[name]
    x, t = np.random.default_rng(0).standard_normal((4, *shape), dtype=np.float32), np.array(times)
    together = net(x, t)
    alone = np.concatenate([net(x[i : i + 1], t[i : i + 1]) for i in range(4)])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)
    changed = np.array([other, *times[1:]])
    difference = np.abs(net(x, changed) - together).reshape(4, -1).max(axis=1)
    assert np.all(difference[1:] < 1e-5)
    assert (difference[0] > 1e-5) == (other != times[0])


# ---- S6


def test_S6_how_far_ten_and_twenty_times_fewer_steps_carry_with_the_exact_eps():
    """Wasserstein-2 to a peak as wide as the documents' middle one, in its own deviations, by recursion (O3)."""
    schedule, sigma = schedules.linear(), 0.03
    law = Gaussian([0.1], [[sigma**2]])

    def distance(steps, count, spacing):
        mean, variance = law.outcome(schedule, steps(schedule, SPACINGS[spacing](1000, count)))
        return np.hypot(mean.item() - 0.1, np.sqrt(variance.item()) - sigma) / sigma

    for steps, spacing, at_1000, at_100, at_50 in (
        (ddpm_steps, "trailing", 0.123, 0.475, 0.646),
        (ddpm_steps, "quadratic", 0.123, 0.128, 0.184),
        (ddim_steps, "trailing", 0.081, 0.453, 0.640),
        (ddim_steps, "linspace", 0.081, 0.284, 0.411),
        (ddim_steps, "quadratic", 0.081, 0.086, 0.118),
    ):
        got = [distance(steps, count, spacing) for count in (1000, 100, 50)]
        assert got == pytest.approx([at_1000, at_100, at_50], abs=6e-4)


# ---- S9


def test_S9_a_network_that_is_told_the_class_is_trained_and_sampled_by_class():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 4000)
    x = (2.0 * labels - 1 + 0.2 * rng.standard_normal(4000))[:, None].astype(np.float32)
    net = nn.MLP(rng, dim=1, width=32, depth=2, T=100, classes=2)
    trainer = Trainer(net, SHORT, x, labels, rng=rng, batch=256, lr=5e-3, warmup=20, decay=0.98)
    list(trainer.run(300))
    for label, centre in ((0, -1), (1, 1)):
        samples = sampled(trainer, label)
        assert np.mean(np.sign(samples) == centre) > 0.99
        assert samples.mean() == pytest.approx(centre, abs=0.1) and samples.std() < 0.4
    both = sampled(trainer, np.arange(1000) % 2)
    np.testing.assert_array_equal(both[:, 0] > 0, np.arange(1000) % 2 == 1)


# ---- S11


def test_S11_the_companion_of_128_units_with_an_embedding_at_each_layer_and_an_average_draws_the_s_curve():
    """300 steps: an energy distance of 31 before and of 0.04 after, where two draws of the data are 0.003 apart."""
    data, rng = datasets.load("s-curve"), np.random.default_rng(0)
    net = nn.MLP(rng, dim=2, width=128, depth=3, T=100, time="embedding")
    assert len(net.times) == len(net.hidden) == 3 and all(
        time.table.shape == (100, 128) for time in net.times
    )
    trainer = Trainer(net, SHORT, data.x, rng=rng, batch=256, lr=3e-3, warmup=50, decay=0.99)

    def distance():
        return metrics.energy_distance(sampled(trainer, count=2000), data.held_out[:2000])

    assert distance() > 5
    list(trainer.run(300))
    assert not np.array_equal(trainer.ema.values, trainer.parameters.values)
    assert distance() < 0.1
