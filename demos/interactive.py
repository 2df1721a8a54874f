"""One page to play with: the 1-D mixture at every t, and samplers side by side. No server, no network.

Everything in it is computed here by the package itself, with the exact ε (EQUATIONS.md O1); the page's script
(`interactive.js`) only shows it.

    python demos/interactive.py      writes docs/course/interactive.html, in a minute or two
"""

import json
from itertools import product
from pathlib import Path

import numpy as np

from minidiff import files, metrics, noising, oracles, samplers, schedules
from minidiff.diffusion.denoiser import Denoiser
from minidiff.evaluation import pages

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "course" / "interactive.html"

STEPS = (3, 5, 10, 20, 50, 200)
SPACINGS = ("trailing", "leading", "quadratic", "logsnr")
ETAS = (0.0, 0.25, 0.5, 1.0)
NAMES = {
    "ddpm": "DDPM",
    "ddim": "DDIM",
    "plms": "PLMS",
    "dpmpp_2m": "DPM-Solver++ 2M",
    "heun": "Heun",
    "unipc": "UniPC",
}
COUNT, PATHS, POINTS = (
    20_000,
    16,
    51,
)  # samples of each sampler; those whose paths are shown, with so many points
EDGES = np.linspace(-1.2, 1.2, 61)  # of the histograms

data, schedule = oracles.mixture1d(), schedules.linear(T=1000)
denoiser = Denoiser(data.network(schedule), schedule)
real = data.sample(np.random.default_rng(0), 400_000)
x_T = samplers.initial_noise(np.random.default_rng(1), (COUNT, 1))


def rounded(array: np.ndarray, digits: int = 3) -> list:
    """As it goes into the page."""
    return np.round(np.asarray(array, np.float64), digits).tolist()


def forward() -> dict:
    """At some times t: q_t and its score on a grid, and the posterior of x_{t−1} for pairs (x_0, x_t)."""
    times = np.unique(np.round(1000 * np.linspace(0, 1, 61) ** 2).astype(int))[1:]
    grid = np.linspace(-2.5, 2.5, 251)
    starts, states = data.means[:, 0], np.linspace(-2, 2, 41)
    densities, scores, means, deviations = [], [], [], []
    for t in times.tolist():
        x = grid[:, None]
        densities.append(rounded(np.exp(data.log_density(schedule, x, t))))
        scores.append(rounded(noising.score_from_eps(schedule, data.eps(schedule, x, t), t)[:, 0], 2))
        pairs = np.array(list(product(starts, states)))
        mean, variance = noising.posterior(schedule, pairs[:, :1], pairs[:, 1:], t)
        means.append(rounded(mean.reshape(len(starts), -1), 4))
        deviations.append(round(float(np.sqrt(np.asarray(variance).item())), 5))
    bell = np.linspace(-4, 4, 81)
    return {
        "times": times.tolist(),
        "alpha_bar": rounded(schedule.alpha_bar[times], 4),
        "grid": rounded(grid),
        "density": densities,
        "score": scores,
        "x0": rounded(starts),
        "xt": rounded(states),
        "mean": means,
        "deviation": deviations,
        "bell": [rounded(bell), rounded(np.exp(-(bell**2) / 2))],
    }


def sampled(name: str, steps: int, spacing: str, **options: float) -> dict:
    """What a sampler makes over these times: some paths, the histogram of all samples, their distance to the data."""
    times = samplers.spaced(schedule, spacing, steps)
    rng = np.random.default_rng(2)
    states = samplers.SAMPLERS[name].function(denoiser, x_T, rng, times, **options)
    path, visited, x = [x_T[:PATHS, 0]], [times[0]], x_T
    for state in states:
        path.append(state.x[:PATHS, 0])
        visited.append(state.t)
        x = state.x
    shown = np.unique(np.linspace(0, len(path) - 1, min(len(path), POINTS)).round().astype(int))
    histogram, _ = np.histogram(x, EDGES)
    return {
        "t": [round(float(visited[i]), 1) for i in shown],
        "paths": rounded(np.array(path)[shown].T, 2),
        "histogram": rounded(histogram / (COUNT * np.diff(EDGES)), 2),
        "distance": round(float(metrics.wasserstein1(x, real)), 5),
    }


def figures() -> dict:
    """All that the page shows."""
    found = {}
    for steps, spacing in product(STEPS, SPACINGS):
        for name in NAMES:
            for eta in ETAS if name == "ddim" else (None,):
                options = {} if eta is None else {"eta": eta}
                key = " ".join([name, str(steps), spacing, *(f"{value:g}" for value in options.values())])
                found[key] = sampled(name, steps, spacing, **options)
        print(f"{steps} steps, {spacing}: done")
    floors = [
        metrics.wasserstein1(data.sample(np.random.default_rng(seed), COUNT), real) for seed in range(3, 23)
    ]
    middle = (EDGES[:-1] + EDGES[1:]) / 2
    density = np.exp(data.log_density(schedule, middle[:, None], 0))
    return {
        "forward": forward(),
        "samplers": found,
        "choices": {"sampler": NAMES, "steps": STEPS, "spacing": SPACINGS, "eta": ETAS},
        "bins": rounded(middle),
        "density": rounded(density),
        "highest": int(np.ceil(density.max())),
        "floor": rounded([np.mean(floors), np.std(floors)], 5),
    }


STYLE = """<style>
:root { --blue: #0072b2; --orange: #d55e00; }
@media (prefers-color-scheme: dark) { :root { --blue: #56b4e9; --orange: #e69f00; } }
.controls { display: flex; flex-wrap: wrap; gap: .25rem 1rem; align-items: center; }
.controls label { display: flex; gap: .5rem; align-items: center; }
.sides { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: 1rem; }
select { font: inherit; min-height: 2.2rem; max-width: 100%; color: var(--ink); background: var(--paper); }
svg { display: block; width: 100%; height: auto; color: var(--ink); }
svg text { font: 13px system-ui, sans-serif; fill: currentColor; }
.axis { stroke: currentColor; stroke-opacity: .5; fill: none; }
.a { stroke: var(--blue); } .b { stroke: var(--orange); stroke-dasharray: 7 4; }
.curve { fill: none; stroke-width: 2; }
.thin { fill: none; stroke-width: 1; stroke-opacity: .6; stroke-dasharray: none; }
.bar { fill: var(--blue); fill-opacity: .35; } .bar.second { fill: var(--orange); }
.exact { fill: none; stroke: currentColor; stroke-width: 1.5; }
.floor { fill: currentColor; fill-opacity: .15; }
output { font-variant-numeric: tabular-nums; display: block; min-height: 1.5rem; }
</style>
"""


def blocks(content: dict) -> list[str]:
    """The page's body."""
    controls = '<div class="controls"></div><figure></figure>'
    sides = [
        f'<section aria-label="sampler {side}"><h3>Sampler {side} ({colour})</h3>{controls}</section>'
        for side, colour in (("A", "blue"), ("B", "orange"))
    ]
    return [
        STYLE,
        pages.heading("The data, noised up to t"),
        pages.paragraph(
            "Blue: the density q_t of x_t, the data with the noise of t steps (F4, O1), and below it the score, its "
            "logarithm's derivative, which points to where x_t is more probable. Orange, dashed: the posterior "
            "q(x_{t-1} | x_t, x_0) of the pair that you choose (R1), in a height of its own. It is narrow, because one "
            "step adds little noise, and lies near x_t: x_0 draws its mean only a little."
        ),
        '<div id="forward"><div class="controls"></div><output></output><figure></figure></div>\n',
        pages.heading("Two samplers side by side"),
        pages.paragraph(
            "All take the same initial noise and the exact ε, so that every error is the sampler's. Left in each "
            f"picture: {PATHS} paths from x_T, at t = 1000, to x_0. Right: the histogram of {COUNT:,} samples beside "
            "the exact density. η matters to DDIM alone: 0 is deterministic, and 1 is DDPM with the variance β̃. "
            "Heun evaluates the network twice a step."
        ),
        f'<div id="samplers" class="sides">{"".join(sides)}</div>\n',
        pages.heading("The distance to the data, by the number of steps"),
        pages.paragraph(
            "Wasserstein-1, both axes logarithmic; the large marks are the numbers of steps chosen above. The grey "
            f"band is what {COUNT:,} real points reach, the mean ± two standard deviations of 20 draws: differences "
            "there are chance."
        ),
        '<figure id="distances"></figure>\n',
        f'<script type="application/json" id="figures">{json.dumps(content, separators=(",", ":"))}</script>\n',
        f"<script>\n{(HERE / 'interactive.js').read_text(encoding='utf-8')}</script>\n",
    ]


if __name__ == "__main__":
    page = pages.page("Denoising diffusion in one dimension", blocks(figures()))
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    files.replace(PAGE, page.encode())
    print(f"wrote {PAGE}")
