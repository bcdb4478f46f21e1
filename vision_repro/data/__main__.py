"""`python -m vision_repro.data get|check|show --dataset=<name>`: bring a data set, look for faults, look at images."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from vision_repro import data, datasets
from vision_repro.config import UserError, describe, nearest, option, parse_single
from vision_repro.data.config import DataConfig
from vision_repro.files.places import cache_folder
from vision_repro.store.atomic import write_atomic

if TYPE_CHECKING:
    from torch import Tensor

    from vision_repro.files.listing import Listing
    from vision_repro.files.splits import Splits

VERBS = {
    "get": "fetch what is missing of a data set, and say what is there",
    "check": "read every image once: broken files, wrong labels, empty classes, images that stand in two splits",
    "show": "write a contact sheet of training images, as they are and augmented",
}


@dataclass(frozen=True)
class Options:
    """What a person can say about a data set on the command line."""

    dataset: str = option("digits", "data set")
    data_root: str | None = option(None, "folder with data sets you already have (default: $VISION_REPRO_DATA)")
    out: str = option("outputs/data", "folder for pictures and reports")
    augmentation: str = option("none", "training augmentation to show")
    image_size: int = option(224, "side of a model's input [pixels], for images that have several sizes")
    count: int = option(8, "images to show")
    seed: int = option(0, "which images and which draws are shown")
    workers: int = option(2, "processes that read images")

    def __post_init__(self) -> None:
        """Raises UserError for counts that cannot be."""
        for name, low in (("image_size", 1), ("count", 1), ("seed", 0), ("workers", 0)):
            if getattr(self, name) < low:
                raise UserError(f"--{name}={getattr(self, name)} is too small: expected at least {low}.")

    @property
    def root(self) -> Path | None:
        """The folder with the user's data sets, if there is one."""
        place = self.data_root or os.environ.get("VISION_REPRO_DATA")
        return Path(place) if place else None

    def file(self, verb: str) -> Path:
        """Returns where the picture of a verb goes."""
        words = [self.dataset, verb, *([self.augmentation] if verb == "show" else [])]
        return Path(self.out) / ("-".join(words).replace("/", "_").replace(":", "_") + ".png")


def get(options: Options) -> int:
    """Brings a data set to where it is looked for."""
    from vision_repro.datasets.fetch import fetch

    fetch(options.dataset, options.root, cache_folder(), print)
    return 0


def _open(options: Options) -> Listing | Splits:
    if datasets.is_streamed(options.dataset):
        return datasets.listed(options.dataset, options.root, cache_folder())
    return datasets.load(options.dataset, options.root, cache_folder())


def check(options: Options) -> int:
    """Reports what is wrong with a data set, with a picture of examples; returns 1 if it would spoil numbers."""
    # Imported here for start-up time: lightning takes long to import.
    from vision_repro.data.checks import SPLITS
    from vision_repro.data.checks import check as look_at

    found = _open(options)
    total = sum(len(getattr(found, split)) for split in SPLITS)
    with tqdm(total=total, unit="image", disable=not sys.stderr.isatty()) as bar:

        def progress(images: int) -> None:
            bar.update(images)

        report = look_at(found, workers=options.workers, progress=progress)
    print(report.text())
    print(f"Fingerprint {found.checksum[:12]}: {_covered(found)}.")
    _save(report.sheet(found), options.file("check"))
    return 0 if report.ok else 1


def _covered(found: Listing | Splits) -> str:
    """Returns what the fingerprint of a data set covers, in words."""
    from vision_repro.files.listing import SAMPLED
    from vision_repro.files.splits import Splits

    if isinstance(found, Splits):
        return "the SHA-256 of all pixels and labels"
    return f"the SHA-256 of all names, sizes and labels, and of the contents of {SAMPLED} files a split"


def show(options: Options) -> int:
    """Writes a contact sheet of training images: the first column as they are, the others augmented."""
    import torch

    from vision_repro.data import sheet
    from vision_repro.files.subset import order

    sizes = datasets.describe(options.dataset)
    usual, count = sizes.image_size or options.image_size, sizes.train or sys.maxsize
    data.check(DataConfig(options.dataset, usual, count, 1, 1, augmentation=options.augmentation))
    found = _open(options)
    streamed = datasets.is_streamed(options.dataset)
    labels = torch.as_tensor(found.train.labels)
    chosen = order(labels, options.seed)[: options.count].tolist()
    names = [found.class_names[int(labels[image])] for image in chosen]
    images = _images(found, chosen)
    size = options.image_size if streamed else None
    _save(sheet.show(images, options.augmentation, names, size=size, seed=options.seed), options.file("show"))
    return 0


def _images(found: Any, chosen: list[int]) -> list[Tensor]:
    from vision_repro.files.decode import decode
    from vision_repro.files.splits import Splits

    if isinstance(found, Splits):
        return [found.train.images[image] for image in chosen]
    return [decode(found.train.read(image), found.train.source(image)) for image in chosen]


def _save(picture: Any, file: Path) -> None:
    """Writes a picture whole or not at all, and says where."""
    if picture is None:
        return
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    write_atomic(file, buffer.getvalue())
    print(f"Picture: {file}")


def _help() -> str:
    verbs = "\n".join(f"  {name:<7} {text}" for name, text in VERBS.items())
    return f"usage: python -m vision_repro.data VERB --dataset=NAME [--key=value ...]\n\n{verbs}\n\n{describe(Options)}"


def main(tokens: Sequence[str]) -> int:
    """Carries out a verb; returns the exit code (0 well, 1 faults found, 2 bad input)."""
    if not tokens or "--help" in tokens:
        print(f"{_help()}\n\ndata sets: {', '.join(datasets.names())}")
        return 0 if tokens else 2
    verb, *rest = tokens
    try:
        if verb not in VERBS:
            raise UserError(f'"{verb}" is unknown: expected one of {", ".join(VERBS)}.{nearest(verb, VERBS)}')
        options = Options(**parse_single(rest, Options))
        return {"get": get, "check": check, "show": show}[verb](options)
    except UserError as error:
        print(f"data: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
