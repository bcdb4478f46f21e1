"""Oxford-IIIT Pet: 37 breeds of cats and dogs in the original layout, images/ and annotations/{trainval,test}.txt.

Split: the official test; val is 10 % of the official trainval (368 images, class-balanced, drawn once), as the authors
of ViT choose their hyper-parameters (B.1.1); train is the other 3,312.
Source: Parkhi et al. 2012, "Cats and Dogs"; www.robots.ox.ac.uk/~vgg/data/pets.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vision_repro.config import UserError
from vision_repro.files.download import Remote
from vision_repro.files.listing import Files, Inventory, Listing, complete, named_files
from vision_repro.files.places import fetchable, find
from vision_repro.files.splits import Sizes

NAMES: tuple[str, ...] = ("pets",)
SIZES = {"pets": Sizes(3_312, 368, 3_669, 37)}
MEAN_PER_CLASS = NAMES  # Kornblith et al. 2019, "Do better ImageNet models transfer better?", Table 1
FOLDERS = ("pets/oxford-iiit-pet", "oxford-iiit-pet", "pets", "pets-3/oxford-iiit-pet")
_PAGE = "https://www.robots.ox.ac.uk/~vgg/data/pets/data"
# MD5 as torchvision 0.29 knows them, sizes as tensorflow-datasets does
SOURCES = {
    "pets": (
        Remote(f"{_PAGE}/images.tar.gz", "images.tar.gz", 791_918_971, "5c4f3ee8e5d25df40f4fd59a7f44e54c",
               folder=FOLDERS[0], gives="images"),
        Remote(f"{_PAGE}/annotations.tar.gz", "annotations.tar.gz", 19_173_078, "95a8c909bbe2e81eed6a22bccdf3f68f",
               folder=FOLDERS[0], gives="annotations"),
    )
}  # fmt: skip

# in the order of the official class numbers 1 .. 37; a capital letter marks a cat in the file names
CLASSES = (
    "Abyssinian", "american bulldog", "american pit bull terrier", "basset hound", "beagle", "Bengal", "Birman",
    "Bombay", "boxer", "British Shorthair", "chihuahua", "Egyptian Mau", "english cocker spaniel", "english setter",
    "german shorthaired", "great pyrenees", "havanese", "japanese chin", "keeshond", "leonberger", "Maine Coon",
    "miniature pinscher", "newfoundland", "Persian", "pomeranian", "pug", "Ragdoll", "Russian Blue", "saint bernard",
    "samoyed", "scottish terrier", "shiba inu", "Siamese", "Sphynx", "staffordshire bull terrier", "wheaten terrier",
    "yorkshire terrier",
)  # fmt: skip


def listing(name: str, data_root: Path | None, cache: Path) -> Listing:
    """Returns the splits of Pets: 37 classes, whatever part of them the copy holds. No image is opened.

    Raises:
        UserError: if the data are not there, an annotation is broken, or an image that it names is missing.
    """
    root = find(name, FOLDERS, "annotations/trainval.txt", data_root, cache, fetchable(name))
    inventory = Inventory()
    trainval, test = (_official(root, half, inventory) for half in ("trainval", "test"))
    both = set(trainval.names.tolist()) & set(test.names.tolist())
    if both:
        raise UserError(
            f"{root}/annotations name {min(both).decode()} in trainval.txt and in test.txt: fetch them again."
        )
    return complete(CLASSES, trainval, test=test, checksum=inventory.checksum(), source=root, fraction=0.1)


def _official(root: Path, half: str, inventory: Inventory) -> Files:
    path = root / "annotations" / f"{half}.txt"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}): fetch the annotations again.") from None
    rows = [
        _row(line, f"{path}, line {number}")
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.startswith("#")
    ]
    if not rows:
        raise UserError(f"{path} names no images: fetch the annotations again.")
    labels = np.array([label for _, label in rows], dtype=np.int64)
    return named_files(root / "images", [image for image, _ in rows], labels, inventory)


def _row(line: str, source: str) -> tuple[str, int]:
    """Returns the file and the class number 0 .. 36 of a line such as "Abyssinian_100 1 1 1"."""
    image, _, rest = line.partition(" ")
    number = rest.split(" ")[0]
    if not number.isdigit() or not 1 <= int(number) <= len(CLASSES):
        raise UserError(f'{source}, "{line}": expected an image and its class, 1 to {len(CLASSES)}.')
    breed = image.rpartition("_")[0].replace("_", " ")
    if breed != CLASSES[int(number) - 1]:
        raise UserError(f'{source}, "{line}": class {number} is the {CLASSES[int(number) - 1]}, by its name it is not.')
    return f"{image}.jpg", int(number) - 1
