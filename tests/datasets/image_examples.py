"""Image files of all formats and kinds of pixels, a folder of them, and what Pillow's plain pipeline makes of each."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps

SRGB = ImageCms.createProfile("sRGB")
FORMATS = {
    "png": "PNG",
    "jpg": "JPEG",
    "webp": "WEBP",
    "bmp": "BMP",
    "tif": "TIFF",
    "gif": "GIF",
    "ppm": "PPM",
}


def swapped_profile() -> bytes:
    """A profile in which red is sRGB's green, and green its red."""
    profile = ImageCms.ImageCmsProfile(SRGB).tobytes()
    return profile.replace(b"rXYZ", b"____").replace(b"gXYZ", b"rXYZ").replace(b"____", b"gXYZ")


def linear_grey_profile() -> bytes:
    """A profile of grey whose levels are proportional to light."""
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D)
    curve = b"curv\0\0\0\0" + struct.pack(">I", 0)
    tags = struct.pack(">I4sII4sII", 2, b"wtpt", 156, len(white), b"kTRC", 156 + len(white), len(curve))
    body = tags + white + curve
    header = struct.pack(">I4sI4s4s4s", 128 + len(body), b"\0" * 4, 0x02400000, b"mntr", b"GRAY", b"XYZ ")
    header = header.ljust(36, b"\0") + b"acsp" + b"\0" * 28 + struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D)
    return header.ljust(128, b"\0") + body


def photograph(rng: np.random.Generator, width: int, height: int, mode: str = "RGB") -> Image.Image:
    """A smooth picture with some grain, in one of Pillow's modes."""
    if mode == "I;16":
        grey = np.asarray(photograph(rng, width, height, "L")).astype(np.uint16)
        return Image.fromarray(grey << 8 | rng.integers(0, 256, grey.shape, dtype=np.uint16))
    bands = Image.fromarray(rng.integers(0, 256, (5, 7, 4), dtype=np.uint8)).resize(
        (width, height), Image.BICUBIC
    )
    if mode in ("RGBA", "CMYK"):
        return Image.merge(mode, bands.split())
    if mode == "LA":
        return Image.merge("LA", bands.split()[:2])
    if mode == "LAB":
        to_lab = ImageCms.buildTransform(SRGB, ImageCms.createProfile("LAB"), "RGB", "LAB")
        lab = ImageCms.applyTransform(bands.convert("RGB"), to_lab)
        return Image.frombytes("LAB", lab.size, lab.tobytes())  # without the profile, which would be saved
    return bands.convert("RGB").convert(mode)


def encoded(image: Image.Image, ending: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, FORMATS.get(ending, ending), **options)
    return stream.getvalue()


def turned_by_exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[274] = orientation
    return exif.tobytes()


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width, height, bits, colour, rows, *chunks, interlaced=False):
    """A PNG with these bytes as rows (each begins with the number of its filter)."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced)
    chunks = (chunk(b"IHDR", header), *chunks, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


# (ending, mode, options of `save`), for all that is read
KINDS = [
    *(("jpg", mode, {"quality": 90}) for mode in ("RGB", "L", "CMYK")),
    ("jpg", "RGB", {"quality": 90, "progressive": True}),
    *(("jpg", "RGB", {"exif": turned_by_exif(turn)}) for turn in range(1, 9)),
    *(("jpg", mode, {"icc_profile": swapped_profile()}) for mode in ("RGB", "L")),
    *(("png", mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    ("png", "RGB", {"exif": turned_by_exif(6)}),
    ("png", "RGB", {"icc_profile": swapped_profile()}),
    ("png", "L", {"icc_profile": linear_grey_profile()}),
    ("png", "P", {"transparency": 3}),
    ("png", "P", {"transparency": bytes(range(0, 256, 2))}),
    ("png", "L", {"transparency": 77}),
    ("png", "RGB", {"transparency": (10, 20, 30)}),
    *(("webp", mode, {"quality": 80}) for mode in ("RGB", "RGBA")),
    ("webp", "RGB", {"lossless": True, "exif": turned_by_exif(8)}),
    *(("bmp", mode, {}) for mode in ("1", "L", "P", "RGB")),
    *(("tif", mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "LAB", "I;16")),
    *(
        ("tif", "RGB", {"compression": packing})
        for packing in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg")
    ),
    ("tif", "RGB", {"exif": turned_by_exif(5)}),
    ("gif", "L", {}),
    ("gif", "P", {}),
    ("gif", "P", {"transparency": 3}),
    *(("ppm", mode, {}) for mode in ("1", "L", "RGB")),
]


def plain(content: bytes) -> Image.Image:
    """What a program of a few lines of Pillow makes of an image, as RGB."""
    image = Image.open(io.BytesIO(content))
    profile = image.info.get("icc_profile")
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) // 256).astype(np.uint8))
    if profile:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        grey = source.profile.xcolor_space == "GRAY"
        was_grey = image.mode == "L"
        image = ImageCms.profileToProfile(
            image if grey else image.convert("RGB"), source, SRGB, outputMode="RGB"
        )
        image = image.convert("L") if was_grey else image
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image.getchannel("A"))
        return white
    return image.convert("RGB")


def reduced(image: Image.Image, width: int, height: int) -> np.ndarray:
    """The largest middle part of an image that has these proportions, to a fraction of a pixel, by Lanczos's filter."""
    scale = max(width / image.width, height / image.height)
    left, top = (image.width - width / scale) / 2, (image.height - height / scale) / 2
    right, bottom = left + width / scale, top + height / scale
    box = (max(0, left), max(0, top), min(image.width, right), min(image.height, bottom))  # against rounding
    return np.asarray(image.resize((width, height), Image.LANCZOS, box=box))


CLASSES, DEPTHS = ("cat2", "cat10", "dog"), ("", "deep/", "deep/er/")
HIDDEN = [".DS_Store", ".ipynb_checkpoints/cat2/1.png", "cat2/._0.jpg", "cat10/Thumbs.db"]
FOREIGN = ["cat2/deep/icon.ico", "notes.txt"]
DAMAGED = ["cat2/cut.jpg", "dog/deep/forged.png"]


def make_folder(folder: Path, count: int, least: int, most: int) -> dict[str, int]:
    """Writes `count` images of all kinds, their sides from `least` to `most`, in three classes at three depths.

    Beside them lies what HIDDEN, FOREIGN and DAMAGED name. Returns the class of each image, in their natural order.
    """
    rng = np.random.default_rng(count)
    found = {}
    for number in range(count):
        ending, mode, options = KINDS[number % len(KINDS)]
        width, height = np.exp(rng.uniform(np.log(least), np.log(most), 2)).round().astype(int).tolist()
        label, depth = number % 3, number // 3 % 3
        name = f"{CLASSES[label]}/{DEPTHS[depth]}{number}.{ending}"
        write(folder / name, encoded(photograph(rng, width, height, mode), ending, **options))
        found[label, depth, number] = name
    jpeg, png = (encoded(photograph(rng, 32, 32), ending) for ending in ("jpg", "png"))
    for name in HIDDEN:
        write(folder / name, png)
    write(folder / FOREIGN[0], b"\0\0\1\0\1\0\x20\x20\0\0\1\0\x20\0" + struct.pack("<2I", len(png), 22) + png)
    write(folder / FOREIGN[1], b"BM, P5, GIF8")
    write(folder / DAMAGED[0], jpeg[:-200])
    write(folder / DAMAGED[1], png[:60] + bytes([png[60] ^ 1]) + png[61:])
    return {found[key]: key[0] for key in sorted(found)}


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
