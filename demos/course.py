"""What the sessions of the course have in common: derivations that are evaluated, and pictures with captions."""

import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from minidiff import plots
from minidiff.training import Step, Trainer

PICTURES = Path(__file__).parent / "pictures"

Line = Callable[..., np.ndarray]


def at_least(line: Line) -> Line:
    """Mark a line of a derivation that is not equal to the one above it but greater or equal."""
    line.relation = "≥"
    return line


def compare(title: str, lines: Sequence[Line], seed: int = 0, tolerance: float = 1e-9) -> None:
    """Evaluate the lines of a derivation at random numbers: each must equal the one above it.

    lines: functions whose arguments are named as the symbols. Every symbol is six numbers between 0.05 and 0.95: a
    formula of single numbers is evaluated at six points at once, one of a vector at a vector of six. Prints the largest
    difference, relative to the largest entry; raises AssertionError with the number of the line if it exceeds the
    tolerance.
    """
    rng, symbols, worst = np.random.default_rng(seed), {}, 0.0
    values = []
    for line in lines:
        names = inspect.signature(line).parameters
        symbols |= {name: rng.uniform(0.05, 0.95, 6) for name in names if name not in symbols}
        values.append(np.asarray(line(*(symbols[name] for name in names))))
    for number, (line, above, value) in enumerate(zip(lines[1:], values, values[1:], strict=False), 2):
        difference = above - value if hasattr(line, "relation") else np.abs(value - above)
        error = np.max(difference) / max(np.abs(above).max(), np.abs(value).max(), 1e-300)
        assert error <= tolerance, f"{title}: line {number} differs from the one above it by {error:.1e}"
        worst = max(worst, error)
    equal = (
        "equal to" if not any(hasattr(line, "relation") for line in lines) else "equal to, or no less than,"
    )
    print(f"{title}: {len(lines)} lines, each {equal} the one above it to {worst:.0e}")


def save(figure: Figure, name: str, caption: str) -> plots.Frame:
    """Write the caption below the figure, and both to demos/pictures/NAME.png; a notebook shows what is returned."""
    characters = int(figure.get_figwidth() * 15)
    caption = re.sub(r"(\d) (?=\d{3}|%)", "\\1\N{NO-BREAK SPACE}", caption)  # 20 000 stays on one line
    figure.supxlabel(textwrap.fill(caption, characters), x=0.01, ha="left", fontsize=9, color=plots.INK)
    frame = plots.frame_of(figure)
    path = PICTURES / f"{name}.png"
    PICTURES.mkdir(exist_ok=True)
    plots.save(frame, path)
    print(f"wrote {Path(*path.parts[-3:])}")
    return frame


def train(trainer: Trainer, steps: int, enough: float) -> Iterator[Step]:
    """Train until `steps` were made in all; yields each step, prints the loss five times on the way.

    Warns at the end where the mean loss of the last tenth of the steps is above `enough`: what is shown then is not
    that of a trained network.
    """
    losses: list[float] = []
    for step in trainer.run(steps):
        losses.append(step.loss)
        if step.step % max(1, steps // 5) == 0:
            print(
                f"step {step.step} of {steps}: loss {np.mean(losses[-(steps // 10 + 1) :]):.4f}", flush=True
            )
        yield step
    loss = np.mean(losses[-(steps // 10 + 1) :])
    if not loss <= enough:
        print(
            f"WARNING: a loss of {loss:.3f} after {trainer.step} steps, expected at most {enough}: not trained"
        )
