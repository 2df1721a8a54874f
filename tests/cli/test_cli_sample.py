"""`minidiff sample`: units, files, seeds, classes, and every option of every registered sampler."""

import functools
import warnings
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from command_line import arrays_in, call, contents, help_of, refusal, samples_of
from PIL import Image

from minidiff import generation, presets
from minidiff.diffusion.samplers import SAMPLERS, Sampler, State
from minidiff.runs import Run


def drawn(folder, count, sampler="ddim", **options):
    """The samples of `generation.generate` with seed 0, in the data's units."""
    run, recipe = Run.open(folder), generation.Recipe(sampler, options=options)
    rng = np.random.default_rng(0)
    return run.units.to_units(generation.generate(run.denoiser(), run.shape, count, rng, recipe))


# ---- the output


def test_an_npz_holds_float32_samples_of_points_in_their_units(points_run, tmp_path):
    samples = samples_of(points_run, tmp_path / "s.npz")
    assert list(arrays_in(tmp_path / "s.npz")) == ["samples"]
    assert samples.shape == (64, 2) and samples.dtype == np.float32
    np.testing.assert_array_equal(samples, drawn(points_run, 64))


def test_an_npz_holds_float32_samples_of_images_in_their_units(digits_run, tmp_path):
    samples = samples_of(digits_run, tmp_path / "s.npz")
    assert list(arrays_in(tmp_path / "s.npz")) == ["samples"]
    assert samples.shape == (64, 8, 8, 1) and samples.dtype == np.float32
    assert 0 <= samples.min() < 4 and 12 < samples.max() <= 16


@pytest.mark.parametrize("name", ["points_run", "digits_run"])
def test_pictures_open_and_animations_have_a_frame_per_step(name, request, tmp_path):
    folder = request.getfixturevalue(name)
    assert call("sample", folder, "--count", 9, "--steps", 3, "--out", tmp_path / "s.gif") == 0
    assert call("sample", folder, "--count", 9, "--steps", 3, "--out", tmp_path / "s.png") == 0
    with Image.open(tmp_path / "s.gif") as gif, Image.open(tmp_path / "s.png") as png:
        assert gif.format == "GIF" and gif.n_frames == 4
        assert png.format == "PNG" and png.size == gif.size


@pytest.mark.parametrize("made_before", [False, True])
def test_a_folder_takes_an_image_each(digits_run, tmp_path, made_before):
    folder = tmp_path / "images"
    if made_before:
        folder.mkdir()
    assert call("sample", digits_run, "--count", 12, "--steps", 3, "--out", folder) == 0
    samples = samples_of(digits_run, tmp_path / "s.npz", "--count", 12, "--steps", 3)
    assert [path.name for path in sorted(folder.iterdir())] == [f"{i:04}.png" for i in range(12)]
    for path, sample in zip(sorted(folder.iterdir()), samples, strict=True):
        with Image.open(path) as image:
            assert image.mode == "L" and image.size == (8, 8)
            np.testing.assert_allclose(np.asarray(image) / 255 * 16, sample[..., 0], atol=16 / 255)


def test_a_folder_that_cannot_take_images_is_refused(digits_run, points_run, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for status, run, name, message in (
        (1, digits_run, "full", "not an empty folder"),
        (1, digits_run, "none/images", "no folder"),
        (2, points_run, "images", "has points"),
    ):
        assert message in refusal(capsys, status, "sample", run, "--out", tmp_path / name)
    assert not (tmp_path / "images").exists()


def test_without_out_the_picture_in_the_run_is_replaced(run_copy, capsys):
    (run_copy / "samples.png").unlink()
    assert call("sample", run_copy, "--count", 5) == 0
    assert f"wrote {run_copy / 'samples.png'}" in capsys.readouterr().out
    assert (run_copy / "samples.png").exists()


def test_sampling_with_out_does_not_change_the_run(points_run, tmp_path):
    before = contents(points_run)
    samples_of(points_run, tmp_path / "s.npz")
    assert call("info", points_run) == 0
    assert contents(points_run) == before


def test_a_picture_of_one_point_is_drawn_without_a_warning(points_run, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert call("sample", points_run, "--count", 1, "--out", tmp_path / "s.png") == 0


# ---- randomness


@pytest.mark.parametrize(
    "options",
    [
        ["--sampler", "ddpm"],
        ["--sampler", "ddpm", "--steps", 2],
        ["--sampler", "ddpm", "--variance", "large"],
        ["--sampler", "ddim", "--steps", 3, "--spacing", "leading", "--eta", 0.5],
        ["--eta", 1, "--sigma-hat", "--spacing", "karras"],
        ["--sampler", "plms", "--steps", 4],
        ["--sampler", "dpmpp_2m", "--sde", "--spacing", "logsnr"],
        ["--sampler", "heun", "--churn", 3],
        ["--sampler", "unipc", "--order", 3],
        ["--sampler", "unipc", "--no-corrector"],
        ["--sampler", "pc", "--corrections", 2, "--snr", 0.1],
    ],
    ids=str,
)
def test_a_seed_determines_the_samples_whatever_their_count(points_run, tmp_path, options):
    draw = functools.partial(samples_of, points_run, tmp_path / "s.npz", *options)
    many = draw("--count", 150)
    np.testing.assert_array_equal(draw("--count", 150), many)
    np.testing.assert_array_equal(draw("--count", 2), many[:2])
    assert (draw("--count", 150, "--seed", 1) != many).all()


# ---- classes


def test_samples_of_a_class_and_the_effect_of_guidance(class_run, tmp_path):
    assert Run.open(class_run).settings.training.label_drop == presets.LABEL_DROP
    draw = functools.partial(samples_of, class_run, tmp_path / "s.npz", "--count", 4)
    any_class, seven = draw(), draw("--class", 7)
    np.testing.assert_array_equal(draw("--class", 7, "--guidance", 1), seven)
    np.testing.assert_array_equal(draw("--class", 7, "--guidance", 0), any_class)
    assert (draw("--class", 7, "--guidance", 2) != seven).any() and (seven != any_class).any()


# ---- options of the samplers


@pytest.mark.parametrize(
    ("arguments", "recipe"),
    [
        (["--sampler", "ddpm", "--variance", "large"], ("ddpm", {"variance": "large"})),
        (["--eta", 1, "--sigma-hat"], ("ddim", {"eta": 1.0, "sigma_hat": True})),
        (["--sampler", "dpmpp_2m", "--sde"], ("dpmpp_2m", {"sde": True})),
        (["--sampler", "heun", "--churn", 3], ("heun", {"churn": 3.0})),
        (["--sampler", "unipc", "--order", 3, "--no-corrector"], ("unipc", {"order": 3, "corrector": False})),
        (["--sampler", "pc", "--corrections", 2, "--snr", 0.1], ("pc", {"corrections": 2, "snr": 0.1})),
    ],
    ids=str,
)
def test_options_of_a_sampler_change_the_samples_as_the_recipe_does(points_run, tmp_path, arguments, recipe):
    sampler, options = recipe
    samples = samples_of(points_run, tmp_path / "s.npz", *arguments, "--count", 9)
    np.testing.assert_array_equal(samples, drawn(points_run, 9, sampler, **options))
    assert (samples != drawn(points_run, 9, sampler)).any()


def flag_of(key, option):
    flag = key.replace("_", "-")
    return f"--no-{flag}" if option.default is True else f"--{flag}"


def values_of(option):
    """Values other than the default."""
    if option.type is bool:
        return [not option.default]
    if option.choices:
        return [choice for choice in option.choices if choice != option.default]
    return [option.default + option.type(1)]


OPTIONS = [
    (name, key, value)
    for name, record in SAMPLERS.items()
    for key, option in record.options.items()
    for value in values_of(option)
]
NEEDS = {"sigma_hat": {"eta": 1.0}}  # other options, of the same sampler, without which one is refused


@pytest.fixture(scope="module")
def learned_run(points_file, tmp_path_factory):
    """An untrained run on points, T = 5, with a learned variance, so that no option of a sampler is refused."""
    folder = tmp_path_factory.mktemp("runs") / "learned"
    return Run.create(folder, data=points_file, T=5, width=8, learn_variance=True).folder


@pytest.mark.parametrize(("name", "key", "value"), OPTIONS)
def test_every_option_of_every_sampler_arrives_at_it(name, key, value, learned_run, tmp_path, monkeypatch):
    record, received = SAMPLERS[name], []

    @functools.wraps(record.function)
    def recording(denoiser, x_T, rng, timesteps=None, **options):
        received.append(options)
        return record.function(denoiser, x_T, rng, timesteps, **options)

    monkeypatch.setitem(SAMPLERS, name, replace(record, function=recording))
    expected = {key: value, **NEEDS.get(key, {})}
    arguments = []
    for other, given in expected.items():
        option = record.options[other]
        arguments += [flag_of(other, option)] + ([] if option.type is bool else [given])
    samples_of(learned_run, tmp_path / "s.npz", "--sampler", name, *arguments, "--count", 2, "--steps", 2)
    assert received and all(options == expected for options in received)
    assert type(received[0][key]) is record.options[key].type


@pytest.mark.parametrize("command", ["sample", "evaluate"])
def test_help_lists_every_option_of_every_sampler_with_its_default(command, capsys, monkeypatch):
    lines = help_of(capsys, monkeypatch, command)
    for name, record in SAMPLERS.items():
        for key, option in record.options.items():
            line = lines[flag_of(key, option)]
            assert f"{name}: " in line and option.help in line
            assert option.type is bool or f"({option.default})" in line


def euler_maruyama(
    denoiser, x_T, rng, timesteps=None, temperature: float = 1.0, exact_end: bool = True
) -> Iterator[State]:
    """The reverse SDE in steps over `timesteps`; temperature: factor of the noise; exact_end: none in the last step."""
    x, schedule = x_T, denoiser.schedule
    for t, s in pairwise(timesteps):
        eps = denoiser(x, t).eps
        alpha = schedule.alpha_bar[t] / schedule.alpha_bar[s]
        x = (2 - alpha**0.5) * x - (1 - alpha) / (1 - schedule.alpha_bar[t]) ** 0.5 * eps
        if s or not exact_end:
            x = x + temperature * (1 - alpha) ** 0.5 * rng.standard_normal(x.shape)
        yield State(s, x, x)


@pytest.fixture
def registered(monkeypatch):
    """A sampler that this file registers, as a user of the package would."""
    help = {
        "temperature": "factor of the noise, 100% of it by default",
        "exact_end": "leave out the last noise",
    }
    record = Sampler(euler_maruyama, steps=3, spacing="leading", help=help)
    monkeypatch.setitem(SAMPLERS, "em", record)


def test_a_sampler_registered_from_outside_can_be_used(registered, points_run, tmp_path):
    draw = functools.partial(samples_of, points_run, tmp_path / "s.npz", "--sampler", "em", "--count", 5)
    plain = draw()
    np.testing.assert_array_equal(plain, drawn(points_run, 5, "em"))
    for arguments, options in (
        (["--temperature", 0.5], {"temperature": 0.5}),
        (["--no-exact-end"], {"exact_end": False}),
    ):
        changed = draw(*arguments)
        np.testing.assert_array_equal(changed, drawn(points_run, 5, "em", **options))
        assert (changed != plain).any()


def test_a_sampler_registered_from_outside_is_in_help_and_errors(registered, points_run, capsys, monkeypatch):
    lines = help_of(capsys, monkeypatch, "sample")
    assert ",em}" in lines["--sampler"] and "3 for em" in lines["--steps"]
    assert lines["--temperature"].endswith("em: factor of the noise, 100% of it by default (1.0)")
    assert lines["--no-exact-end"].endswith("em: do not leave out the last noise")
    line = refusal(capsys, 2, "sample", points_run, "--temperature", 2)
    assert "ddim has no option temperature; it is an option of em" in line


def test_a_sampler_registered_from_outside_can_be_compared(registered, run_copy, capsys):
    assert call("evaluate", run_copy, "--count", 20, "--compare", "em") == 0
    assert "em" in capsys.readouterr().out
