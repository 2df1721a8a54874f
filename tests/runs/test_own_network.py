"""A network of one's own needs nothing but `forward`: it is called, trained, sampled and stored like any other."""

import numpy as np
import pytest
from small_runs import OPTIONS, assert_same_training, create, train

from minidiff import datasets, nn, samplers, schedules
from minidiff.autograd import Tensor
from minidiff.autograd import tanh as activation
from minidiff.nn.layers import Linear
from minidiff.runs import Run
from minidiff.training import Trainer, TrainingOptions

SCHEDULE = schedules.linear(6, 0.05, 0.5)
POINTS = np.random.default_rng(7).standard_normal((10, 2), dtype=np.float32)
X, T = POINTS[:4], np.array([1, 3, 5, 6])


def time_column(t, x):
    return (t / 6).reshape(-1, 1).astype(x.dtype)


class Plain(nn.Network):
    """Two layers with names of its own, and a time that is added; no settings, no classes, no `last`."""

    def __init__(self, rng, hidden_units=6):
        self.encode, self.decode = Linear(rng, 2, hidden_units), Linear(rng, hidden_units, 2)
        self.hidden_units, self.notes = hidden_units, {"about": ["anything"]}

    def forward(self, x, t, label, rng):
        assert label is None
        return self.decode(activation(self.encode(x) + time_column(t, x)))


class Nested(nn.Network):
    """Parameters in lists of tuples of lists, some of them bare tensors, one of them shared."""

    def __init__(self, rng):
        weights = [
            Tensor(rng.standard_normal((2, 2), dtype=np.float32), requires_grad=True) for _ in range(3)
        ]
        self.blocks = [(weights[0], [Linear(rng, 2, 2)]), ([weights[1]], weights[2]), weights[0]]
        self.constant = Tensor(np.full(2, 0.5, np.float32))  # is not trained

    def forward(self, x, t, label, rng):
        (first, [layer]), ([second], third), again = self.blocks
        h = activation(x @ first + time_column(t, x) * self.constant)
        return layer(activation(h @ second) @ third) @ again


class WithOptions(nn.Network):
    """All that is optional: classes, a learned variance, settings, dropout from the rng."""

    def __init__(self, rng, classes=3, learned_variance=True):
        self.settings = dict(classes=classes, learned_variance=learned_variance)
        self.classes, self.learned_variance = classes, learned_variance
        self.layer, self.table = Linear(rng, 2, 4), nn.layers.Embedding(rng, classes + 1, 4)
        self.drawn = 0.0

    def forward(self, x, t, label, rng):
        self.drawn = 0.0 if rng is None else rng.random()
        return self.layer(x) + self.table(label) * time_column(t, x)


class Parameterless(nn.Network):
    def forward(self, x, t, label, rng):
        return x * time_column(t, x)


TRAINABLE = {"plain": Plain, "nested": Nested, "with options": WithOptions}
every_trainable = pytest.mark.parametrize("kind", TRAINABLE)


def made(kind, seed=0):
    return TRAINABLE[kind](np.random.default_rng(seed))


def trainer_of(kind, **options):
    net = made(kind)
    labels = np.arange(10) % 3 if net.classes else None
    options = TrainingOptions(**{"batch": 4, "lr": 0.05, "warmup": 2} | options)
    return Trainer(net, SCHEDULE, POINTS, labels, options, rng=np.random.default_rng(1))


# ---- called


@pytest.mark.parametrize("kind", [*TRAINABLE, "parameterless"])
def test_it_takes_arrays_and_tensors_and_returns_the_same_kind(kind):
    net = Parameterless() if kind == "parameterless" else made(kind)
    shape = (4, 4) if kind == "with options" else (4, 2)
    out, recorded = net(X, T), net(Tensor(X), T)
    assert isinstance(out, np.ndarray) and isinstance(recorded, Tensor)
    assert out.shape == recorded.shape == shape and out.dtype == np.float32
    np.testing.assert_array_equal(out, recorded.data)
    assert recorded.requires_grad == (kind != "parameterless")
    wide = net(X.astype(np.float64), T)
    assert wide.dtype == np.float64
    np.testing.assert_allclose(wide, out, rtol=1e-6)


@pytest.mark.parametrize("kind", ["plain", "nested", "parameterless"])
def test_without_classes_it_takes_no_label_and_times_are_checked(kind):
    net = Parameterless() if kind == "parameterless" else made(kind)
    assert (net.classes, net.learned_variance, dict(net.settings)) == (0, False, {})
    with pytest.raises(ValueError, match="takes no label"):
        net(X, T, np.zeros(4, int))
    with pytest.raises(ValueError, match="one time for each of 4"):
        net(X, T[:3])


def test_without_forward_the_error_has_its_signature():
    class Empty(nn.Network):
        pass

    with pytest.raises(NotImplementedError, match=r"Empty defines no forward\(x, t, label, rng\)"):
        Empty()(X, T)


def test_the_label_and_the_rng_of_training_reach_forward():
    net = made("with options")
    assert (net(X, T, np.array([0, 1, 2, 3])) != net(X, T)).any()  # 3 is "no class", the default
    np.testing.assert_array_equal(net(X, T, np.full(4, 3)), net(X, T))
    net(X, T, rng=np.random.default_rng(0))
    assert net.drawn == 0  # dropout is for tensors
    net(Tensor(X), T, rng=np.random.default_rng(0))
    assert net.drawn == np.random.default_rng(0).random()


# ---- trained and sampled


@every_trainable
@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_every_parameter_is_trained_and_no_constant(kind, prediction):
    trainer = trainer_of(kind, prediction=prediction)
    before = {name: p.data.copy() for name, p in trainer.net.named_parameters().items()}
    losses = [step.loss for step in trainer.run(60)]
    assert np.isfinite(losses).all()
    for name, p in trainer.net.named_parameters().items():
        assert (p.data != before[name]).any(), name
    if kind == "nested":
        assert list(before) == [
            *("blocks.0.0", "blocks.0.1.0.w", "blocks.0.1.0.b", "blocks.1.0.0", "blocks.1.1")
        ]
        np.testing.assert_array_equal(trainer.net.constant.data, 0.5)


def test_training_lowers_the_loss():
    trainer = trainer_of("plain", batch=200, prediction="x0")
    losses = [step.loss for step in trainer.run(200)]
    assert np.mean(losses[-20:]) < 0.8 * np.mean(losses[:5])


@every_trainable
def test_it_is_sampled_through_the_denoiser_of_its_trainer(kind):
    trainer = trainer_of(kind)
    list(trainer.run(5))
    denoiser = trainer.denoiser()
    np.testing.assert_array_equal(denoiser.net(X, T), trainer.ema_net(X, T))
    assert (denoiser.net(X, T) != trainer.net(X, T)).any()
    rng = np.random.default_rng(0)
    samples = samplers.final(samplers.ddpm(denoiser, samplers.initial_noise(rng, (5, 2)), rng))
    assert samples.shape == (5, 2) and np.isfinite(samples).all()


@every_trainable
def test_its_training_is_restored_bit_for_bit(kind):
    whole, stopped = trainer_of(kind), trainer_of(kind)
    steps, before = list(whole.run(6)), list(stopped.run(3))
    resumed = trainer_of(kind)
    resumed.restore(stopped.state())
    assert before + list(resumed.run(6)) == steps


def test_a_network_without_parameters_is_sampled_and_refused_by_the_trainer_in_words():
    from minidiff.diffusion.denoiser import Denoiser

    rng = np.random.default_rng(0)
    denoiser = Denoiser(nn.frozen(Parameterless()), SCHEDULE)
    np.testing.assert_array_equal(denoiser.net(X, T), Parameterless()(X, T))
    assert samplers.final(samplers.ddim(denoiser, samplers.initial_noise(rng, (3, 2)), rng)).shape == (3, 2)
    with pytest.raises(ValueError, match="without parameters"):
        Trainer(Parameterless(), SCHEDULE, POINTS, rng=rng)


# ---- stored by a run


@pytest.fixture
def registered(monkeypatch):
    for kind, network in TRAINABLE.items():
        monkeypatch.setitem(nn.NETWORKS, kind, network)


def my_data():
    rng = np.random.default_rng(0)
    return datasets.from_raw("mine", rng.normal(3.0, 2.0, (40, 2)), np.arange(40) % 3)


@every_trainable
def test_registered_it_is_stored_opened_and_resumed_by_a_run(registered, tmp_path, kind):
    whole, stopped = (create(tmp_path / name, my_data(), net={"kind": kind}) for name in ("a", "b"))
    train(whole, 6), stopped.train(4, progress=None)
    resumed = Run.resume(stopped.folder, data=my_data())
    train(resumed, 6)
    assert_same_training(resumed, whole)
    opened = Run.open(stopped.folder)
    assert type(opened.net) is TRAINABLE[kind]
    np.testing.assert_array_equal(opened.sample(3), stopped.sample(3))
    assert opened.sample(3).shape == (3, 2)


def test_its_settings_are_stored_with_the_run(registered, tmp_path):
    run = create(tmp_path / "run", my_data(), net={"kind": "plain", "hidden_units": 9})
    assert Run.open(run.folder).net.hidden_units == 9
    described = nn.describe(made("with options"))
    assert described == {"kind": "with options", "classes": 3, "learned_variance": True}


def test_a_run_of_a_network_that_is_not_registered_is_refused(registered, tmp_path, monkeypatch):
    run = create(tmp_path / "run", my_data(), net={"kind": "plain"})
    monkeypatch.delitem(nn.NETWORKS, "plain")
    for opening in (
        lambda: Run.open(run.folder),
        lambda: create(tmp_path / "other", my_data(), net={"kind": "plain"}),
    ):
        with pytest.raises(ValueError, match=r"unknown network 'plain', known: mlp, unet.*NETWORKS"):
            opening()
    assert not (tmp_path / "other").exists()


def test_of_a_registered_network_the_whole_description_is_needed(registered, tmp_path):
    with pytest.raises(ValueError, match="plain"):
        Run.create(tmp_path / "run", data=my_data(), net="plain")
    options = {name: value for name, value in OPTIONS.items() if name != "T"}
    with pytest.raises(ValueError, match="width: already part of the network's description"):
        Run.create(tmp_path / "run", data=my_data(), net={"kind": "plain"}, width=8, **options)
    assert not (tmp_path / "run").exists()
