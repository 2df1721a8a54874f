"""Data sets by name, from files or from arrays, scaled for the network.

`data = load("digits")` has `data.x`, (1438, 8, 8, 1) float32 in [−1, 1], `data.labels`, and 359 more images held out;
`data.units.to_units(data.x)` are the same images in their own units, here 0…16. They are kept as they are stored:
`data.x[index]` converts a few, `np.asarray(data.x)` all.

`from_raw("mine", array, labels)` makes the same of your own arrays, and `draw("moons", 1000, rng)` draws independent
points of a distribution, in its own units.
"""

from .dataset import Dataset, from_raw
from .distributions import DISTRIBUTIONS, draw
from .loading import NAMES, UnknownDataset, load, read_images, read_mask
from .loading_options import LoadingOptions
from .samples import Samples
from .units import Units

__all__ = [
    "DISTRIBUTIONS",
    "NAMES",
    "Dataset",
    "LoadingOptions",
    "Samples",
    "Units",
    "UnknownDataset",
    "draw",
    "from_raw",
    "load",
    "read_images",
    "read_mask",
]
