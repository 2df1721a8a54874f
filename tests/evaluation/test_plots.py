"""Figures and images, read back pixel by pixel."""

import io
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from minidiff import plots
from minidiff.datasets import Units
from minidiff.diffusion.samplers import State

RNG = np.random.default_rng(0)


def levels(images):
    """[−1, 1] → 0…255, three channels."""
    pixels = np.round((np.clip(images, -1, 1) + 1) * 127.5).astype(np.uint8)
    return np.broadcast_to(
        pixels[..., :3] if pixels.shape[-1] >= 3 else pixels[..., :1], (*pixels.shape[:-1], 3)
    )


def is_red(frame):
    r, g, b = np.moveaxis(frame.astype(int), -1, 0)
    return (r > g + 60) & (r > b + 40)


# ---- images


@given(
    count=st.integers(1, 10),
    size=st.sampled_from([(4, 4), (3, 5), (28, 28)]),
    channels=st.sampled_from([1, 2, 3, 4]),
    columns=st.none() | st.integers(1, 5),
    side=st.sampled_from([1, 100, 480]),
)
def test_the_grid_holds_every_image_in_order_with_square_pixels(count, size, channels, columns, side):
    height, width = size
    images = np.random.default_rng(count).uniform(-1.2, 1.2, (count, height, width, channels))
    frame = plots.image_grid(images, columns, side)
    columns = columns or int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    assert frame.dtype == np.uint8 and frame.shape[2] == 3
    # A pixel is scale × scale; the rest is gaps, one more than there are images along each axis.
    scale = next(
        s
        for s in range(1, 1000)
        if frame.shape[1] == columns * width * s + (columns + 1) * max(1, s // 2)
        and frame.shape[0] == rows * height * s + (rows + 1) * max(1, s // 2)
    )
    gap = max(1, scale // 2)
    rest = np.ones(frame.shape[:2], bool)
    for i, expected in enumerate(levels(images)):
        top = gap + i // columns * (height * scale + gap)
        left = gap + i % columns * (width * scale + gap)
        square = np.s_[top : top + height * scale, left : left + width * scale]
        np.testing.assert_array_equal(frame[square][::scale, ::scale], expected)
        np.testing.assert_array_equal(frame[square][scale - 1 :: scale, scale - 1 :: scale], expected)
        rest[square] = False
    assert (frame[rest] == 255).all()


def test_a_grid_is_about_as_wide_as_requested():
    for count, size in [(64, 8), (1, 8), (9, 28), (64, 32)]:
        frame = plots.image_grid(np.zeros((count, size, size, 1)))
        assert 240 <= frame.shape[1] <= 540


# ---- points


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("with_data", [False, True])
def test_a_frame_of_points_shows_the_samples_in_red(dim, with_data):
    samples = RNG.standard_normal((300, dim))
    frame = plots.points(samples, RNG.standard_normal((500, dim)) if with_data else None, "title")
    assert frame.shape == (480, 600, 3) and frame.dtype == np.uint8
    assert is_red(frame).sum() > 100


def test_two_groups_of_points_are_drawn_at_their_positions():
    frame = plots.points(
        np.repeat([[-1.0, -1.0], [1.0, 1.0]], 20, axis=0) + 0.01 * RNG.standard_normal((40, 2))
    )
    rows, columns = np.nonzero(is_red(frame))
    upper = rows < rows.mean()
    assert columns[upper].mean() > columns[~upper].mean() + 200  # y points up


@pytest.mark.parametrize("samples", [np.zeros((1, 1)), np.full((5, 2), 3.0)], ids=["one", "equal"])
def test_a_single_point_or_equal_points_are_drawn_without_warnings(samples):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", module="pyparsing|matplotlib", category=DeprecationWarning)
        assert is_red(plots.points(samples)).any()


def test_a_picture_shows_images_in_a_grid_and_points_in_their_own_units(monkeypatch):
    images = RNG.uniform(-1, 1, (4, 8, 8, 1))
    np.testing.assert_array_equal(plots.picture(images, Units(8.0, 8.0)), plots.image_grid(images))
    shown = []
    monkeypatch.setattr(plots, "points", lambda *arrays: shown.extend(arrays))
    units = Units((1.0, 0.0), (2.0, 10.0))
    plots.picture(np.ones((3, 2), np.float32), units, np.zeros((4, 2), np.float32))
    np.testing.assert_array_equal(shown[0], np.tile([3.0, 10.0], (3, 1)))
    np.testing.assert_array_equal(shown[1], np.tile([1.0, 0.0], (4, 1)))


# ---- losses


@pytest.mark.parametrize("count", [1, 2, 500])
def test_a_loss_curve_has_a_line(count):
    frame = plots.loss_curve(range(10, 10 * count + 10, 10), 1 / np.arange(1, count + 1))
    assert frame.shape == (420, 720, 3)
    assert count == 1 or is_red(frame).sum() > 100


def test_the_figure_of_distances_has_a_line_for_each_sampler():
    def colours(found):
        errors = {sampler: dict.fromkeys(line, 0.001) for sampler, line in found.items()}
        frame = plots.distances(found, errors, 0.01, "wasserstein1")
        return {f"#{r:02x}{g:02x}{b:02x}" for r, g, b in np.unique(frame.reshape(-1, 3), axis=0)}

    line = {5: 0.5, 10: 0.2, 1000: 0.02}
    assert plots.COLOURS[1] in colours({"ddpm": line, "heun": line | {10: 0.3}})
    assert plots.COLOURS[1] not in colours({"ddpm": line})


@given(st.lists(st.floats(0, 100), min_size=1, max_size=60))
def test_the_running_mean_is_over_the_last_tenth_of_the_values_so_far(values):
    expected = [np.mean(values[i + 1 - max(1, (i + 1) // 10) : i + 1]) for i in range(len(values))]
    np.testing.assert_allclose(plots._running_mean(np.array(values)), expected, rtol=1e-9, atol=1e-9)


# ---- files


@pytest.mark.parametrize(
    ("suffix", "kind"), [("png", "PNG"), ("jpg", "JPEG"), ("PNG", "PNG"), ("gif", "GIF")]
)
def test_the_suffix_determines_the_format(tmp_path, suffix, kind):
    frame = RNG.integers(0, 255, (20, 30, 3)).astype(np.uint8)
    path = tmp_path / f"a.{suffix}"
    plots.save(frame, path)
    with Image.open(path) as picture:
        assert picture.format == kind and picture.size == (30, 20)
        if kind == "PNG":
            np.testing.assert_array_equal(np.asarray(picture), frame)


@pytest.mark.parametrize("name", ["a", "a.xyz"])
def test_a_suffix_of_no_image_format_is_refused_and_named(tmp_path, name):
    with pytest.raises(ValueError, match=name):
        plots.save(np.zeros((4, 4, 3), np.uint8), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("count", [1, 2, 7])
def test_an_animation_has_every_frame_loops_and_stays_on_the_last(tmp_path, count):
    frames = [np.full((16, 24, 3), 30 * i, np.uint8) for i in range(count)]
    plots.animate(frames, tmp_path / "a.gif", seconds=0.7)
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == count and gif.size == (24, 16)
        if count > 1:
            assert gif.info["loop"] == 0
        for i in range(count):
            gif.seek(i)
            assert np.abs(np.asarray(gif.convert("RGB")).astype(int) - frames[i]).max() <= 2
            assert count == 1 or gif.info["duration"] == (1500 if i == count - 1 else 700 // count)


def test_pyplot_is_never_imported():
    code = "import sys; from minidiff import cli, plots; assert 'matplotlib.pyplot' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# ---- sampling trajectories


def states(shape, T=40):
    """States from noise at T to samples of a distribution at 0."""
    rng = np.random.default_rng(0)
    noise, clean = rng.standard_normal((2, *shape))
    mixed = [np.float32(t / T * noise + (1 - t / T) * 0.3 * clean) for t in range(T, -1, -1)]
    return [State(t, x, np.clip(x, -1, 1)) for t, x in zip(range(T, -1, -1), mixed, strict=True)]


def test_a_strip_has_a_row_of_x_t_and_one_of_x0_for_each_sample_from_first_to_last():
    trajectory = states((2, 3, 3, 1))
    frame = plots.strip(trajectory, 5)
    shown = [trajectory[i] for i in (0, 10, 20, 30, 40)]
    rows = [
        *(s.x[0] for s in shown),
        *(s.x0[0] for s in shown),
        *(s.x[1] for s in shown),
        *(s.x0[1] for s in shown),
    ]
    np.testing.assert_array_equal(frame, plots.image_grid(np.stack(rows), 5, side=960))
    few = trajectory[:2]  # no more columns than there are states
    rows = [*(s.x[0] for s in few), *(s.x0[0] for s in few), *(s.x[1] for s in few), *(s.x0[1] for s in few)]
    np.testing.assert_array_equal(plots.strip(few, 5), plots.image_grid(np.stack(rows), 2, side=960))


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("with_data", [False, True])
def test_the_density_over_time_is_drawn_in_any_dimension(dim, with_data):
    units = Units((1.0,) * dim, (2.0,) * dim)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", module="pyparsing|matplotlib", category=DeprecationWarning)
        frame = plots.trajectories(
            states((500, dim)), units, np.zeros((9, dim), np.float32) if with_data else None
        )
    assert frame.dtype == np.uint8 and frame.shape[2] == 3 and is_red(frame).sum() > 100


def test_the_trajectory_of_a_single_point_is_drawn_without_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", module="pyparsing|matplotlib", category=DeprecationWarning)
        for dim in (1, 2):
            plots.trajectories(states((1, dim), T=2), Units((0.0,) * dim, (1.0,) * dim))


def test_the_rate_distortion_curve_is_a_red_line():
    frame = plots.rate_distortion(np.array([0.001, 0.1, 1.0]), np.array([3.0, 2.0, 0.1]))
    assert is_red(frame).sum() > 100


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_each_image_is_saved_in_its_own_pixels(tmp_path, channels):
    levels = RNG.integers(0, 256, (3, 5, 4, channels))
    plots.save_each(levels / 127.5 - 1, tmp_path)
    for i, image in enumerate(levels):
        with Image.open(tmp_path / f"000{i}.png") as saved:
            expected = image[..., :3] if channels > 1 else image[..., 0]
            np.testing.assert_array_equal(np.asarray(saved), expected)


def test_a_notebook_shows_every_frame_as_it_is():
    frames = (
        plots.image_grid(RNG.uniform(-1, 1, (5, 4, 4, 3))),
        plots.points(RNG.standard_normal((50, 2))),
        plots.frame_of(plots.figure(2, 2)[0]),
    )
    for frame in frames:
        with Image.open(io.BytesIO(frame._repr_png_())) as picture:
            np.testing.assert_array_equal(np.asarray(picture), frame)
