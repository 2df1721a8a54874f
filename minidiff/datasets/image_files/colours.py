"""From what a file says of its pixels to grey or RGB of 8 bits as a viewer shows them: docs/images.md has the table.

Depth, palette, transparency and colour profile are honoured, in this order, or refused with a ValueError.
"""

import io
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageCms
from PIL.ImageFile import ImageFile

GREY = {"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L"}
DEEP = {"I", "I;16", "I;16B", "I;16L"}
MAX_PROFILE = 4 << 20
PROFILE_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK", "LAB": "Lab"}
SRGB_GAMMA = 1 / 2.2
SRGB_PRIMARIES = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)  # white, red, green, blue: x and y of each
BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF


def is_grey(image: ImageFile) -> bool:
    """Whether the pixels of an image that was opened, but not loaded yet, have no colour."""
    palette = _palette(image)
    grey_palette = len(palette) > 0 and bool((palette == palette[:, :1]).all())
    return image.mode in GREY or grey_palette or _raw_mode(image) == "LA;16B"


def as_shown(image: ImageFile) -> Image.Image:
    """An image that was opened, but not loaded yet, as "L" where it is grey and else as "RGB", over white.

    Raises ValueError for pixels whose look is not certain: floating-point, signed or 32-bit numbers, a palette that
    lacks colours, a colour profile that is damaged or made for other pixels, a gamma that is not that of sRGB.
    """
    _check_numbers(image)
    grey, info = is_grey(image), image.info
    pixels, alpha = _without_alpha(image, grey)
    if "icc_profile" in info:
        pixels = _to_srgb(pixels, info["icc_profile"] or b"")
    elif "srgb" not in info:
        _check_gamma(info)
    pixels = _in_mode(pixels, "L" if grey else "RGB")
    if alpha is None:
        return pixels
    white = Image.new(pixels.mode, pixels.size, "white")
    white.paste(pixels, mask=alpha)
    return white


def _raw_mode(image: ImageFile) -> str:
    """How the file has its pixels, in Pillow's words, or "" where its decoder does not say."""
    arguments = image.tile[0][3] if image.tile else ""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _check_numbers(image: Image.Image) -> None:
    formats = np.ravel(getattr(image, "tag_v2", {}).get(SAMPLE_FORMAT, 1))
    if image.mode == "F" or (formats != 1).any() or (image.mode == "I" and image.format == "TIFF"):
        raise ValueError("its pixels are signed, 32-bit or floating-point numbers; 8 and 16 bits are read")


def _without_alpha(opened: ImageFile, grey: bool) -> tuple[Image.Image, Image.Image | None]:
    """The pixels as L, RGB, CMYK or LAB, and their opacity as L where the image has transparency."""
    raw_mode, colours = _raw_mode(opened), len(_palette(opened))
    opened.load()
    image: Image.Image = opened
    key = image.info.get("transparency")
    if image.mode in DEEP:
        return _from_16_bits(image, key)
    if image.mode == "P" and int(np.max(image.getextrema())) >= colours:
        raise ValueError("its palette lacks colours of the pixels")
    if isinstance(key, tuple) and "16" in raw_mode:
        raise ValueError("its transparent colour has 16 bits a channel")
    if image.mode == "L" and key is not None:
        # Pillow spreads levels of 2 and 4 bits over 0…255, but not this one.
        image.info["transparency"] = key * {"L;2": 85, "L;4": 17}.get(raw_mode, 1)
    if key is not None or image.mode in ("La", "PA", "RGBa"):
        image = image.convert("LA" if image.mode in GREY else "RGBA")
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    if grey:
        return _in_mode(image, "L"), alpha
    return image if image.mode in ("CMYK", "LAB") else _in_mode(image, "RGB"), alpha


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    """As `image.convert(mode)`, which copies an image of that mode, however large."""
    return image if image.mode == mode else image.convert(mode)


def _palette(image: ImageFile) -> np.ndarray:
    """Its colours in the file, (N, 3) in any order of the three; only before the image is loaded, which adds some."""
    if image.mode != "P" or image.palette is None:
        return np.empty((0, 3), np.uint8)
    mode, _, planes = (image.palette.rawmode or image.palette.mode).partition(";")
    values = np.frombuffer(bytes(image.palette.palette), np.uint8)
    values = values[: len(values) // len(mode) * len(mode)]
    return (values.reshape(len(mode), -1).T if planes else values.reshape(-1, len(mode)))[:, :3]


def _from_16_bits(image: Image.Image, key: int | None) -> tuple[Image.Image, Image.Image | None]:
    """The high byte, which is what Pillow takes of 16-bit colour too."""
    values, tags = np.asarray(image), getattr(image, "tag_v2", {})
    alpha = None if key is None else Image.fromarray(np.where(values == key, np.uint8(0), np.uint8(255)))
    bits = int(np.ravel(tags.get(BITS_PER_SAMPLE, 16))[0])
    levels = (values >> (bits - 8)).astype(np.uint8)
    white_is_zero = tags.get(PHOTOMETRIC, 1) == 0
    return Image.fromarray(255 - levels if white_is_zero else levels), alpha


def _to_srgb(pixels: Image.Image, profile: bytes) -> Image.Image:
    """By Little CMS, with the perceptual intent, to RGB. Grey pixels may have a profile of colours, R = G = B."""
    if not 0 < len(profile) <= MAX_PROFILE:
        raise ValueError("its colour profile is damaged or longer than 4 MB")
    space = _space(profile)
    if space == "RGB" and pixels.mode == "L":
        pixels = pixels.convert("RGB")
    if PROFILE_SPACES[pixels.mode] != space:
        raise ValueError(f"its pixels are {pixels.mode}, but its colour profile is for {space}")
    shown = ImageCms.applyTransform(pixels, _transform(profile, pixels.mode))
    assert shown is not None  # it is None only where the image itself was changed
    return shown


def _space(profile: bytes) -> str:
    return ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.xcolor_space.strip()


@lru_cache(maxsize=8)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform:
    """Most images of a folder have the same profile."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")


def _check_gamma(info: dict[Any, Any]) -> None:
    """A PNG may have, in place of a profile, a gamma and primaries."""
    gamma, primaries = info.get("gamma", SRGB_GAMMA), info.get("chromaticity", SRGB_PRIMARIES)
    if abs(gamma - SRGB_GAMMA) > 0.02 or np.abs(np.subtract(primaries, SRGB_PRIMARIES)).max() > 0.01:
        raise ValueError(
            f"its gamma ({gamma:g}) or primaries are not those of sRGB, and no profile says more"
        )
