"""The works in minidiff."""

from collections.abc import Callable

import numpy as np
import works

from minidiff import autograd as ag
from minidiff import kernels, nn, objectives, optim, schedules
from minidiff.autograd import Tensor


def unet(name: str) -> nn.UNet:
    """The U-Net of a name."""
    spec = works.UNETS[name]
    widths, small = spec["widths"], spec["many_heads"]
    net = nn.UNet(
        np.random.default_rng(0),
        size=spec["size"],
        channels=spec["channels"],
        width=widths[0],
        multipliers=tuple(w // widths[0] for w in widths),
        depth=spec["depth"],
        attention=works.attended(name),
        heads=widths[-1] // 8 if small else 1,
        groups=8 if small else 32,
        dropout=0.0,
    )
    rng = np.random.default_rng(0)
    for p in net.named_parameters().values():
        p.data = works.parameter(rng, p.shape)
    return net


def work(name: str, precision: str = "float32") -> Callable[[], np.ndarray | None]:
    """The work of a name, prepared; precision: of the forward passes of U-Nets. KeyError for bf16 in another work."""
    network, what, batch = works.parse(name)
    if precision != "float32" and (network not in works.UNETS or what != "forward"):
        raise KeyError(name)
    rng = np.random.default_rng(0)
    if network == "product":
        a, b = rng.standard_normal((2, batch, batch), dtype=np.float32)
        return lambda: kernels.linear(a, b, np.zeros(batch, np.float32))
    if network == "mlp":
        return _mlp(what, batch, rng)
    net = unet(network)
    x, t = works.inputs(name)
    if what == "forward":
        net = nn.frozen(net, precision)
        return lambda: net(x, t)
    eps = rng.standard_normal(x.shape, dtype=np.float32)
    parameters = nn.ParameterVector(net)
    adam = optim.Adam(parameters.values)

    def step() -> None:
        ag.mse(net(Tensor(x), t), eps).backward()
        _, scale = optim.clip_scale(parameters.gradients, 1.0)
        adam.update(parameters.gradients, 2e-4, scale)

    return step


def _mlp(what: str, batch: int, rng: np.random.Generator) -> Callable[[], None]:
    net = nn.MLP(rng, dim=1, width=works.WIDTH, T=works.T)
    if what == "step":
        return _mlp_step(net, batch, rng)

    net = nn.frozen(net)

    def sample() -> None:
        x = rng.standard_normal((batch, 1), dtype=np.float32)
        for k in range(50):
            noise = rng.standard_normal((batch, 1), dtype=np.float32)
            x = 0.9 * x - 0.1 * net(x, np.full(batch, k + 1)) + 0.01 * noise

    return sample


def _mlp_step(net: nn.MLP, batch: int, rng: np.random.Generator) -> Callable[[], None]:
    """A training step without what the peers' have not: no clipping, no moving average."""
    schedule, data = schedules.linear(works.T), rng.standard_normal((works.POINTS, 1), dtype=np.float32)
    parameters = nn.ParameterVector(net)
    adam = optim.Adam(parameters.values)

    def step() -> None:
        x0 = data[rng.integers(0, works.POINTS, batch)]
        t = objectives.uniform_times(rng, works.T, batch)
        noise = rng.standard_normal((batch, 1), dtype=np.float32)
        objectives.simple_loss(net, schedule, x0, t, noise).backward()
        adam.update(parameters.gradients, 1e-3)

    return step
