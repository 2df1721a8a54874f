"""Images from a folder, a zip or one file, of any size and in the usual formats: docs/images.md says what is read.

`read_folder(path, ImageOptions(size="32"), report)` returns an `ImageFolder`: all images reduced to one size, as bytes,
their classes, and what was left out.
"""

from .errors import DamagedImage
from .folders import ENDINGS, ImageFolder, read_folder, read_image
from .listing import list_folder
from .options import ImageOptions

__all__ = [
    "ENDINGS",
    "DamagedImage",
    "ImageFolder",
    "ImageOptions",
    "list_folder",
    "read_folder",
    "read_image",
]
