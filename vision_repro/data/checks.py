"""What is wrong with a data set, looked for before it is trained on: every image of every split is read once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from vision_repro.config import UserError
from vision_repro.data.batches import Indices
from vision_repro.data.inspection import Look, Part, first_equal
from vision_repro.files.splits import Split, Splits

if TYPE_CHECKING:
    from PIL.Image import Image

    from vision_repro.files.listing import Listing

SPLITS = ("train", "val", "test")
EXAMPLES = 5  # a finding
_SHOWN = 64  # classes on a sheet without findings


@dataclass(frozen=True)
class Finding:
    """One kind of fault: how many there are, of what, sentences on some, and (split, image) of these.

    The `serious` ones spoil numbers.
    """

    count: int
    what: str
    examples: tuple[str, ...]
    images: tuple[tuple[str, int], ...]
    serious: bool


@dataclass(frozen=True)
class Report:
    """What was found in the data set at `source`; `counts` are images a class, int64 `[classes]`, of each split."""

    source: str
    class_names: tuple[str, ...]
    counts: dict[str, Indices]
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing was found that spoils numbers."""
        return not any(finding.serious for finding in self.findings)

    def text(self) -> str:
        """Returns the report in lines; those of serious findings start with `!!`."""
        lines = [f"{self.source}: {len(self.class_names)} classes"]
        for split, counts in self.counts.items():
            middle = int(np.median(counts))
            lines.append(f"   {split:5} {counts.sum():,} images, {counts.min():,} to {counts.max():,} a class")
            lines[-1] += f" (median {middle:,})"
        for finding in self.findings:
            lines.append(f"{'!!' if finding.serious else ' -'} {finding.count:,} {finding.what}")
            lines += [f"      {example}" for example in finding.examples]
        return "\n".join(lines if self.findings else [*lines, " - nothing was found"])

    def sheet(self, data: Listing | Splits, columns: int = 8) -> Image | None:
        """Returns the examples as a picture, or an image of each class if nothing was found; None without images."""
        from vision_repro.data.sheet import contact_sheet

        parts, images, labels = _parts(data), [], []
        for split, image, text in self._shown(parts["train"].labels):
            try:
                images.append(parts[split].read(image)[1])
            except UserError:
                continue
            labels.append(f"{text}\n{split} {image}")
        return contact_sheet(images, labels, columns) if images else None

    def _shown(self, labels: Indices) -> Iterator[tuple[str, int, str]]:
        for finding in self.findings:
            yield from ((split, image, finding.what) for split, image in finding.images)
        if not self.findings:
            for number, name in enumerate(self.class_names[:_SHOWN]):
                yield "train", int((labels == number).argmax()), name


def check(data: Listing | Splits, *, workers: int = 2, progress: Callable[[int], None] = lambda images: None) -> Report:
    """Returns what is wrong with a data set, read by `workers` processes.

    `progress` is told of each further number of images that were looked at.
    """
    parts, names = _parts(data), data.class_names
    looks = {split: part.look(workers, progress) for split, part in parts.items()}
    findings = [finding for split, part in parts.items() for finding in _faults(part, looks[split], names)]
    findings += _duplicates(looks, parts)
    counts = {split: _counts(part.labels, len(names)) for split, part in parts.items()}
    findings.sort(key=lambda finding: not finding.serious)
    source = data.name if isinstance(data, Splits) else data.source
    return Report(source, names, counts, tuple(findings))


def _parts(data: Listing | Splits) -> dict[str, Part]:
    return {split: Part(split, getattr(data, split)) for split in SPLITS}


def _counts(labels: Indices, classes: int) -> Indices:
    return np.bincount(labels[(labels >= 0) & (labels < classes)], minlength=classes)


def _faults(part: Part, look: Look, class_names: Sequence[str]) -> Iterator[Finding]:
    split, labels, classes = part.split, part.labels, len(class_names)
    wrong = np.flatnonzero((labels < 0) | (labels >= classes)).tolist()
    outside = [(image, f"{part.source(image)} has the label {labels[image]}") for image in wrong]
    yield from _finding(split, f"{split} images have a label that is not in 0 to {classes - 1}", outside, True)
    yield from _finding(split, f"{split} images cannot be read", look.unreadable, True)
    yield from _finding(split, f"{split} images are read in spite of damage", look.damaged, False)
    empty = [name for name, count in zip(class_names, _counts(labels, classes), strict=True) if not count]
    if empty:
        yield Finding(len(empty), f"classes have no {split} image", tuple(empty[:EXAMPLES]), (), split == "train")


def _finding(split: str, what: str, faults: Sequence[tuple[int, str]], serious: bool) -> Iterator[Finding]:
    if faults:
        images, examples = zip(*faults[:EXAMPLES], strict=True)
        yield Finding(len(faults), what, examples, tuple((split, image) for image in images), serious)


def _duplicates(looks: dict[str, Look], parts: dict[str, Part]) -> Iterator[Finding]:
    """Yields images that occur again, in another split (a model remembers what it is tested on) or in their own."""
    for one, other in (*combinations(SPLITS, 2), *zip(SPLITS, SPLITS, strict=True)):
        if one == other:
            first = first_equal(looks[one].pixels)
            again = np.flatnonzero(first != np.arange(len(first)))
        else:
            known = len(looks[one].pixels)
            first = first_equal(np.concatenate((looks[one].pixels, looks[other].pixels)))[known:]
            again = np.flatnonzero(first < known)
        if len(again):
            same = looks[other].files[again] == looks[one].files[first[again]]
            yield _repeated(parts[one], parts[other], first[again], again, int(same.sum()))


def _repeated(one: Part, other: Part, firsts: Indices, copies: Indices, files: int) -> Finding:
    """Returns the finding that images `copies` of `other` equal `firsts` of `one`, `files` of them byte by byte."""
    conflicts = int((one.labels[firsts] != other.labels[copies]).sum())
    within = one.split == other.split
    what = f"{other.split} images " + (f"repeat another of {one.split}" if within else f"occur in {one.split} too")
    what += "" if isinstance(one.images, Split) else f", {files:,} of them as the same file"
    what += f", {conflicts:,} under another label" if conflicts else ""
    pairs = list(zip(firsts.tolist(), copies.tolist(), strict=True))[:EXAMPLES]
    return Finding(
        count=len(copies),
        what=what,
        examples=tuple(f"{other.source(copy)} is {one.source(first)}" for first, copy in pairs),
        images=tuple(place for first, copy in pairs for place in ((one.split, first), (other.split, copy))),
        serious=not within or conflicts > 0,
    )
