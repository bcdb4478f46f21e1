"""Imagenette: ten classes of ImageNet in class folders, as fast.ai publishes it at three sizes.

The folder's val/ is the test split; val is 1 % of train, drawn once, class-balanced (the authors' convention for
ImageNet, ViT B.1.1). Source: github.com/fastai/imagenette, version 2, which drew its own split: ImageNet's validation
images stand in its train/ too, so that a model trained on ImageNet may have seen its test images, and the reverse.
"""

from __future__ import annotations

from pathlib import Path

from vision_repro.datasets import wordnet
from vision_repro.files.download import Remote
from vision_repro.files.listing import Listing, class_folders, scan
from vision_repro.files.places import fetchable, find
from vision_repro.files.splits import Sizes

CLASSES = {
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}
FOLDERS = {
    "imagenette": ("imagenette", "imagenette-224", "imagenette2", "imagenette2-320", "imagenette2-160"),
    "imagenette-160": ("imagenette2-160",),
    "imagenette-320": ("imagenette2-320",),
    "imagenette-full": ("imagenette2",),
}
NAMES: tuple[str, ...] = tuple(FOLDERS)
# 9,469 train and 3,925 val images in version 2; `imagenette` may also be a smaller copy
SIZES = {name: Sizes(9_374, 95, 3_925, 10) for name in NAMES if name != "imagenette"} | {
    "imagenette": Sizes(classes=10)
}

_S3 = "https://s3.amazonaws.com/fast-ai-imageclas"
# MD5 as torchvision 0.29 knows them, sizes as tensorflow-datasets does
_PUBLISHED = {
    "imagenette2": (1_557_161_267, "fe2fc210e6bb7c5664d602c3cd71e612"),
    "imagenette2-320": (341_663_724, "3df6f0d01a2c9592104656642f5e78a3"),
    "imagenette2-160": (99_003_388, "e793b78cc4c9e9a4ccc0c1155377a412"),
}


def _remote(file: str) -> Remote:
    return Remote(f"{_S3}/{file}.tgz", f"{file}.tgz", *_PUBLISHED[file], gives=file)


SOURCES = {
    "imagenette": (_remote("imagenette2-320"),),
    "imagenette-160": (_remote("imagenette2-160"),),
    "imagenette-320": (_remote("imagenette2-320"),),
    "imagenette-full": (_remote("imagenette2"),),
}


def listing(name: str, data_root: Path | None, cache: Path) -> Listing:
    """Returns the splits of Imagenette: ten classes in the order of their WordNet ids, whatever the copy holds.

    Raises:
        UserError: if there is no such folder, or it holds other classes.
    """
    root = find(name, FOLDERS[name], "train", data_root, cache, fetchable(name))
    classes = wordnet.numbers(class_folders(root / "train"), tuple(CLASSES), root / "train")
    return scan(root, classes=classes, class_names=tuple(CLASSES.values()))
