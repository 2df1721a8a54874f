"""How much memory a training step takes, estimated from the shapes of the network before the first step is made."""

from __future__ import annotations

import itertools
from dataclasses import replace

from minidiff import memory, nn
from minidiff.training.options import TrainingOptions

VECTORS = 5  # as long as all parameters: these, their gradients, two moments of Adam, the EMA
BYTES = 4  # of a number in float32


def step_memory(net: nn.Network, options: TrainingOptions) -> float:
    """The bytes that a step takes, within 30 % where it is above 100 MB.

    They are the vectors of the parameters' length, one more for each level of the tree of shards, and the activations
    of the largest shard. Of a network that does not count its activations, only the first is in it.
    """
    levels = (options.shards - 1).bit_length()
    samples = -(-options.batch // options.shards)
    parameters = (VECTORS + levels) * net.count_parameters()
    return BYTES * (parameters + samples * net.activations())


def require_memory(net: nn.Network, options: TrainingOptions) -> None:
    """Raises MemoryError, with what would fit, if a step needs more memory than is available."""
    needed, free = step_memory(net, options), memory.available()
    if needed <= max(free, memory.ALWAYS_THERE):
        return

    def fits(changed: TrainingOptions) -> bool:
        return step_memory(net, changed) <= free

    powers = [2**n for n in range(1, options.batch.bit_length())]
    smaller = (
        replace(options, batch=options.batch // n) for n in powers if options.batch // n >= options.shards
    )
    divided = (
        replace(options, shards=options.shards * n) for n in powers if options.shards * n <= options.batch
    )
    advice = [f"--batch {changed.batch}" for changed in itertools.islice(filter(fits, smaller), 1)]
    advice += [f"--shards {changed.shards}" for changed in itertools.islice(filter(fits, divided), 1)]
    raise MemoryError(
        f"a step with batch {options.batch} needs about {in_words(needed)} of memory, and {in_words(free)} are free: "
        f"free some, or make a run with {' or '.join([*advice, 'a smaller --width'])}"
    )


def in_words(size: float) -> str:
    """`1.5 GB`, or `15 MB`."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
