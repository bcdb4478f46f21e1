"""A folder of the user's own: class folders `train/<class>/*`, and `val/` or `test/` like it, below the data root.

Where there are both val/ and test/, they are just that. One alone is the test split, as ImageNet's val is, and val is
1 % of train, drawn once, class-balanced (the authors' convention for ImageNet, ViT B.1.1). With neither, test is
another 1 % of train.
"""

from __future__ import annotations

from pathlib import Path

from vision_repro.files.listing import Listing, scan
from vision_repro.files.places import find

NAMES: tuple[str, ...] = ("folder",)


def listing(name: str, data_root: Path | None, cache: Path) -> Listing:
    """Returns the splits of the class folders below `data_root`.

    Raises:
        UserError: if there are none, or they hold no images.
    """
    return scan(find(name, (".",), "train", data_root, None))
