"""Flowers-102, in the original layout (jpg/, imagelabels.mat, setid.mat) or in class folders; and Flowers-17's folders.

Split of Flowers-102: the official one, 1,020 train (10 a class), 1,020 val, 6,149 test.
Deviation: ViT (B.1.1) chooses its hyper-parameters on 10 % of train, one image a class; we choose on the official val,
so that train keeps the 1,020 images on which the authors' final runs train, and choosing rests on ten times as many.
Flowers-17 is another, smaller set with other classes; the folder's test/ is the test split, val 10 % of its train/.
Source: Nilsback and Zisserman 2008 (102) and 2006 (17); www.robots.ox.ac.uk/~vgg/data/flowers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vision_repro.config import UserError, nearest
from vision_repro.files import matlab
from vision_repro.files.download import Remote
from vision_repro.files.listing import Files, Indices, Inventory, Listing, class_folders, complete, named_files, scan
from vision_repro.files.places import fetchable, find
from vision_repro.files.splits import Sizes

FOLDERS = {
    "flowers": ("flowers-102", "flowers102", "flowers", "oxford_flowers102"),
    "flowers17": ("flowers-17", "flowers17", "flowers-12"),
}
NAMES: tuple[str, ...] = tuple(FOLDERS)
SIZES = {"flowers": Sizes(1_020, 1_020, 6_149, 102)}
MEAN_PER_CLASS = ("flowers",)  # Kornblith et al. 2019, "Do better ImageNet models transfer better?", Table 1
COUNT = 8_189  # images
_PAGE = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102"
# MD5 as torchvision 0.29 knows them, sizes as tensorflow-datasets does
SOURCES = {
    "flowers": (
        Remote(f"{_PAGE}/102flowers.tgz", "102flowers.tgz", 344_862_509, "52808999861908f626f3c1f4e79d11fa",
               folder="flowers-102", gives="jpg"),
        Remote(f"{_PAGE}/imagelabels.mat", "imagelabels.mat", 502, "e0620be6f572b9609742df49c70aed4d",
               folder="flowers-102"),
        Remote(f"{_PAGE}/setid.mat", "setid.mat", 14_989, "a5357ecc9cb78c4bef273ce3793fc85c", folder="flowers-102"),
    )
}  # fmt: skip

# in the order of the official class numbers 1 .. 102
CLASSES = (
    "pink primrose", "hard-leaved pocket orchid", "canterbury bells", "sweet pea", "english marigold", "tiger lily",
    "moon orchid", "bird of paradise", "monkshood", "globe thistle", "snapdragon", "colt's foot", "king protea",
    "spear thistle", "yellow iris", "globe-flower", "purple coneflower", "peruvian lily", "balloon flower",
    "giant white arum lily", "fire lily", "pincushion flower", "fritillary", "red ginger", "grape hyacinth",
    "corn poppy", "prince of wales feathers", "stemless gentian", "artichoke", "sweet william", "carnation",
    "garden phlox", "love in the mist", "mexican aster", "alpine sea holly", "ruby-lipped cattleya", "cape flower",
    "great masterwort", "siam tulip", "lenten rose", "barbeton daisy", "daffodil", "sword lily", "poinsettia",
    "bolero deep blue", "wallflower", "marigold", "buttercup", "oxeye daisy", "common dandelion", "petunia",
    "wild pansy", "primula", "sunflower", "pelargonium", "bishop of llandaff", "gaura", "geranium", "orange dahlia",
    "pink-yellow dahlia?", "cautleya spicata", "japanese anemone", "black-eyed susan", "silverbush",
    "californian poppy", "osteospermum", "spring crocus", "bearded iris", "windflower", "tree poppy", "gazania",
    "azalea", "water lily", "rose", "thorn apple", "morning glory", "passion flower", "lotus", "toad lily",
    "anthurium", "frangipani", "clematis", "hibiscus", "columbine", "desert-rose", "tree mallow", "magnolia",
    "cyclamen", "watercress", "canna lily", "hippeastrum", "bee balm", "ball moss", "foxglove", "bougainvillea",
    "camellia", "mallow", "mexican petunia", "bromelia", "blanket flower", "trumpet creeper", "blackberry lily",
)  # fmt: skip


def listing(name: str, data_root: Path | None, cache: Path) -> Listing:
    """Returns the splits of Flowers-102, of 102 classes whatever the copy holds, or of Flowers-17. No image is opened.

    Raises:
        UserError: if the data are not there, a label file is broken, or an image is missing.
    """
    if name == "flowers17":
        return scan(find(name, FOLDERS[name], "train", data_root, cache), fraction=0.1)
    for mark in ("setid.mat", "train"):
        try:
            root = find(name, FOLDERS[name], mark, data_root, cache, fetchable(name))
        except UserError as error:
            absent = error
        else:
            return _original(root) if mark == "setid.mat" else _class_folders(root)
    raise absent


def _original(root: Path) -> Listing:
    parts = _matrix(root / "setid.mat", ("trnid", "valid", "tstid"))
    (labels,) = _matrix(root / "imagelabels.mat", ("labels",))
    wrong = labels[(labels < 1) | (labels > len(CLASSES))]
    if wrong.size:
        raise UserError(f"{root / 'imagelabels.mat'} holds the label {wrong[0]}: expected 1 to {len(CLASSES)}.")
    numbers = np.concatenate(parts)
    if len(np.unique(numbers)) != len(numbers) or numbers.min() < 1 or numbers.max() > len(labels):
        raise UserError(
            f"{root / 'setid.mat'} names an image twice, or one beyond the {len(labels)} of imagelabels.mat."
        )
    inventory = Inventory()
    train, val, test = (_files(root / "jpg", part, labels, inventory) for part in parts)
    return complete(CLASSES, train, val=val, test=test, checksum=inventory.checksum(), source=root)


def _files(folder: Path, numbers: Indices, labels: Indices, inventory: Inventory) -> Files:
    numbers = np.sort(numbers)
    names = [f"image_{number:05}.jpg" for number in numbers]
    return named_files(folder, names, labels[numbers - 1] - 1, inventory)


def _matrix(path: Path, variables: Sequence[str]) -> list[Indices]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): fetch it again.") from None
    found = matlab.read(content, variables, path)
    return [matlab.integers(found[name], f"{path}, {name},") for name in variables]


def _class_folders(root: Path) -> Listing:
    """Reads folders named by the class or its official number, of any part of the 102 classes."""
    plain = {_plain(name): number for number, name in enumerate(CLASSES)}
    plain |= {str(number + 1): number for number in range(len(CLASSES))}
    classes = {folder: plain.get(_plain(folder)) for folder in class_folders(root / "train")}
    unknown = next((folder for folder, number in classes.items() if number is None), None)
    if unknown is not None:
        raise UserError(
            f'{root / "train"} has the class "{unknown}", which is none of the 102 of Flowers-102: expected names or '
            f"numbers of those; use --dataset=folder (or flowers17) for other flowers.{nearest(unknown, CLASSES)}"
        )
    known = {folder: number for folder, number in classes.items() if number is not None}
    return scan(root, classes=known, class_names=CLASSES, fraction=0.1)


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())
