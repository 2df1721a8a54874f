"""Published weights as they lie on disk: a folder that diffusers wrote, or a file of weights alone; and such a folder.

model_index.json                                 of a pipeline, whose unet/ and scheduler/ hold the rest
config.json          diffusion_pytorch_model.safetensors or .bin
scheduler_config.json
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from minidiff import files, nn
from minidiff.weights import diffusers, ho, parameters, reading, safetensors, scheduler
from minidiff.weights.scheduler import Scheduler

CONFIG, SCHEDULER = "config.json", "scheduler_config.json"
WEIGHTS = "diffusion_pytorch_model"
LONGEST = 1 << 20  # bytes of a configuration
INDEX = {
    "_class_name": "DDPMPipeline",
    "_diffusers_version": "0.42.1",
    "scheduler": ["diffusers", "DDPMScheduler"],
    "unet": ["diffusers", "UNet2DModel"],
}


class Published(NamedTuple):
    """net: with the weights. scheduler: None where there is no scheduler_config.json."""

    net: nn.UNet
    scheduler: Scheduler | None


def read(source: str | Path, size: int | Sequence[int] | None = None) -> Published:
    """The network in a folder of diffusers, or in a file with the names of Ho et al.'s.

    size: H and W of the images, or one number for both, in place of the configuration's.

    Raises FileNotFoundError where there is nothing, and ValueError, in one line, for a network that `nn.UNet` cannot
    be, for other files and for damaged ones.
    """
    source = Path(source)
    if not source.exists():
        raise FileNotFoundError(f"{source}: there is no such file or folder")
    if source.is_file():
        arrays = reading.read(source)
        with _naming(source):
            if not ho.is_ho(arrays):
                raise ValueError("it has not the names of Ho's network; of diffusers, give the folder")
            return Published(parameters.network(ho.settings(arrays, size), arrays), None)
    about = _found(source, "unet", CONFIG)
    with _naming(about):
        config = _json(about)
        settings = diffusers.settings(config, size)
        flipped = config.get("flip_sin_to_cos", diffusers.DEFAULTS["flip_sin_to_cos"])
    noise = None
    if described := _path(source, "scheduler", SCHEDULER):
        with _naming(described):
            noise = scheduler.read(_json(described))
    weights = _found(source, "unet", *(WEIGHTS + suffix for suffix in reading.SUFFIXES))
    arrays = reading.read(weights)
    with _naming(weights):
        net = parameters.network(settings, arrays, flipped)
    return Published(net, noise)


def write(folder: str | Path, net: nn.UNet, noise: Mapping[str, Any]) -> None:
    """Write a folder that DDPMPipeline.from_pretrained opens.

    noise: the configuration of the scheduler. Raises FileExistsError where the folder holds anything, and ValueError,
    which names the setting, for a network that diffusers does not have.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} is there and not empty; name a new folder")
    config = diffusers.configuration(net.settings)
    for name in ("unet", "scheduler"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    metadata = {"format": "pt"}  # without which diffusers refuses the file
    safetensors.write(folder / "unet" / f"{WEIGHTS}.safetensors", parameters.arrays_of(net), metadata)
    _write_json(folder / "unet" / CONFIG, config)
    _write_json(folder / "scheduler" / SCHEDULER, noise)
    _write_json(folder / "model_index.json", INDEX)


def _path(folder: Path, below: str, *names: str) -> Path | None:
    """The first of these files that is there, in the folder itself or one below."""
    paths = [parent / name for name in names for parent in (folder, folder / below)]
    return next((path for path in paths if path.is_file()), None)


def _found(folder: Path, below: str, *names: str) -> Path:
    path = _path(folder, below, *names)
    if path is None:
        raise FileNotFoundError(
            f"{folder}: expected a folder of diffusers, with a {names[0]} in it or in {below}/"
        )
    return path


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Puts the path before the message of a ValueError."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _json(path: Path) -> dict[str, Any]:
    if path.stat().st_size > LONGEST:
        raise ValueError(f"expected a configuration, got a file of more than {LONGEST:,} bytes")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"expected JSON ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"expected a table in JSON, got {content!r:.40}")
    return content


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    files.replace(path, (json.dumps(content, indent=2) + "\n").encode())
