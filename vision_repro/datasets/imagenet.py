"""ImageNet-1k and ImageNet-21k, from the folders or archives that a person with an account has downloaded.

Splits: ImageNet's validation images are the test split; val is 1 % of train, drawn once, class-balanced (the authors'
convention, ViT B.1.1). ImageNet-21k has no official split: test is another 1 % of train.
Layouts: class folders train/<WordNet id>/ and val/<WordNet id>/, or the original val/ILSVRC2012_val_*.JPEG beside the
development kit (see `ilsvrc`). `make data DATA=imagenet` unpacks the archives.
"""

from __future__ import annotations

from pathlib import Path

from vision_repro.config import UserError
from vision_repro.datasets import ilsvrc, wordnet
from vision_repro.datasets.ilsvrc_archives import unpack
from vision_repro.files.download import Say
from vision_repro.files.listing import Files, Inventory, Listing, class_files, class_folders, complete, scan
from vision_repro.files.places import find, home
from vision_repro.files.splits import Sizes

FOLDERS = {
    "imagenet": ("imagenet", "imagenet-1k", "ILSVRC2012", "ILSVRC/Data/CLS-LOC"),
    "imagenet21k": ("imagenet21k", "imagenet-21k", "imagenet21k_resized"),
}
NAMES: tuple[str, ...] = tuple(FOLDERS)
SIZES = {"imagenet": Sizes(1_268_355, 12_812, 50_000, 1000)}  # of 1,281,167 training images
REAL_LABELS = ("imagenet",)
_ADVICE = "; its images need an account at image-net.org, and `make data DATA=imagenet` unpacks the archives from there"


def listing(name: str, data_root: Path | None, cache: Path) -> Listing:
    """Returns the splits of ImageNet-1k, always of 1,000 classes, or of ImageNet-21k, of as many as there are folders.

    Raises:
        UserError: if there is no such folder, it holds other classes, or labels of the val images are missing.
    """
    if name == "imagenet21k":
        root = find(name, FOLDERS[name], "train", data_root, cache, "; its images need an account at image-net.org")
        return scan(root, class_names=wordnet.readable(class_folders(root / "train")))
    root = find(name, FOLDERS[name], "train", data_root, cache, _ADVICE)
    ids = wordnet.imagenet_1k()
    folders = class_folders(root / "train")
    classes = wordnet.numbers(folders, ids, root / "train")
    if not ilsvrc.is_flat(root / "val"):
        return scan(root, classes=classes, class_names=wordnet.readable(ids))
    inventory = Inventory()
    train = class_files(root / "train", folders, classes, inventory)
    test: Files = ilsvrc.val_files(root, classes, inventory, *([data_root] if data_root else []))
    return complete(wordnet.readable(ids), train, test=test, checksum=inventory.checksum(), source=root)


def prepare(name: str, data_root: Path | None, cache: Path, say: Say) -> None:
    """Unpacks the archives of ImageNet-1k that lie in `data_root`, or in its folder for ImageNet, into class folders.

    Raises:
        UserError: if an archive is missing or broken; ImageNet-21k comes in no archive that we know of.
    """
    if name != "imagenet":
        raise UserError(f"{name}: put its class folders into {FOLDERS[name][0]}/train below --data_root.")
    root = home(data_root, cache)
    unpack(root / FOLDERS[name][0], [folder for folder in (data_root, root) if folder is not None], say)
