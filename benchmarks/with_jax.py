"""The works of the MLP in JAX, each compiled as one program; it takes all CPUs, whatever OMP_NUM_THREADS is."""

from collections.abc import Callable
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import works


def work(name: str) -> Callable[[], None]:
    """The work of a name, prepared; KeyError for the U-Nets, which are not written for JAX here."""
    network, what, batch = works.parse(name)
    if network != "mlp":
        raise KeyError(name)
    keys = iter(jax.random.split(jax.random.PRNGKey(0), 16))
    sizes = [1, *[works.WIDTH] * 3, 1]
    parameters = {
        "w": [jax.random.normal(next(keys), (a, b)) / np.sqrt(a) for a, b in pairwise(sizes)],
        "b": [jnp.zeros(b) for b in sizes[1:]],
        "times": [jax.random.normal(next(keys), (works.T, works.WIDTH)) for _ in range(3)],
    }

    def net(p, x, t):
        for w, b, times in zip(p["w"], p["b"], p["times"], strict=False):
            x = jax.nn.silu(x @ w + b + times[t])
        return x @ p["w"][-1] + p["b"][-1]

    if what == "sample":
        return _sample(net, parameters, batch, next(keys))
    return _step(net, parameters, batch, next(keys), jax.random.normal(next(keys), (works.POINTS, 1)))


def _sample(net, parameters, batch: int, key) -> Callable[[], None]:
    @jax.jit
    def chain(p, key):
        def body(k, carry):
            x, key = carry
            key, drawn = jax.random.split(key)
            noise = jax.random.normal(drawn, x.shape)
            return 0.9 * x - 0.1 * net(p, x, jnp.full((batch,), k)) + 0.01 * noise, key

        return jax.lax.fori_loop(0, 50, body, (jax.random.normal(key, (batch, 1)), key))

    return lambda: jax.block_until_ready(chain(parameters, key))


def _step(net, parameters, batch: int, key, data) -> Callable[[], None]:
    alpha_bar = np.cumprod(1 - np.linspace(1e-4, 0.02, works.T))
    signal, sigma = jnp.sqrt(jnp.float32(alpha_bar)), jnp.sqrt(jnp.float32(1 - alpha_bar))

    def loss(p, x0, t, eps):
        return jnp.mean((net(p, signal[t][:, None] * x0 + sigma[t][:, None] * eps, t) - eps) ** 2)

    @jax.jit
    def update(p, m, v, count, key):
        key, of_data, of_time, of_noise = jax.random.split(key, 4)
        x0 = data[jax.random.randint(of_data, (batch,), 0, works.POINTS)]
        t = jax.random.randint(of_time, (batch,), 0, works.T)
        g = jax.grad(loss)(p, x0, t, jax.random.normal(of_noise, (batch, 1)))
        count += 1
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)

        def adam(p, m, v):
            return p - 1e-3 * m / (1 - 0.9**count) / (jnp.sqrt(v / (1 - 0.999**count)) + 1e-8)

        return jax.tree.map(adam, p, m, v), m, v, count, key

    zeros = jax.tree.map(jnp.zeros_like, parameters)
    state = [parameters, zeros, zeros, jnp.float32(0), key]

    def step() -> None:
        state[:] = update(*state)
        jax.block_until_ready(state)

    return step
