"""Memory of the workers over three epochs of 200,000 listed files, beside the usual list of (path, label) pairs.

Private memory of one worker, as Linux counts it, at the end of the first and of the third epoch. The files are hard
links to small JPEGs, so that it is the listing that is measured and not the decoding.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.timing import Row, show
from vision_repro.training.device import quiet_threads

quiet_threads()

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

from vision_repro.data.config import DataConfig  # noqa: E402
from vision_repro.data.streamed import StreamedData  # noqa: E402
from vision_repro.files.listing import Indices, Listing, scan  # noqa: E402

FILES, EPOCHS, BATCH, WORKERS = 200_000, 3, 500, 2
LINKS = 5_000  # to one file; some file systems allow 65,000


@dataclass
class Pairs:
    """An `Encoded` over a list of (path, label), as torchvision's ImageFolder has it."""

    samples: list[tuple[str, int]]

    @property
    def labels(self) -> Indices:
        """The class numbers int64 `[N]`."""
        return np.array([label for _, label in self.samples], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.samples)

    def read(self, index: int) -> bytes:
        """Returns the content of a file."""
        return Path(self.samples[index][0]).read_bytes()

    def source(self, index: int) -> str:
        """Returns the path."""
        return self.samples[index][0]

    def select(self, indices: Indices) -> Pairs:
        """Returns the files at `indices`."""
        return Pairs([self.samples[index] for index in indices.tolist()])


def write(root: Path, count: int) -> None:
    """Writes `count` training files of two classes and a test file of each."""
    for number, name in enumerate(("apple", "zebra")):
        for split in ("train", "val"):
            (root / split / name).mkdir(parents=True)
        Image.new("RGB", (8, 8), (number * 99,) * 3).save(root / "val" / name / "0.jpg")
        first = Path()
        for file in range(count // 2):
            path = root / "train" / name / f"image_with_a_long_name_{file:08}.jpg"
            if file % LINKS == 0:
                first = path
                Image.new("RGB", (8, 8), (file % 256,) * 3).save(path)
            else:
                os.link(first, path)


def private_mib(pid: int | None) -> float:
    """Returns the memory of a process that it shares with no other [MiB]."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private")) / 1024


def sizes(listing: Listing, count: int, epochs: int) -> Iterator[float]:
    """Yields the largest private memory of a worker at the end of each epoch [MiB]."""
    config = DataConfig(
        "listed",
        image_size=8,
        train_size=len(listing.train),
        global_batch=BATCH,
        steps=epochs * (count // BATCH),
        augmentation="inception",
        workers=WORKERS,
    )
    data = StreamedData(config, listing)
    for step, _ in enumerate(data.train_dataloader(), start=1):
        # five batches before the end of an epoch, as workers are ahead and leave after the last
        if (step + 5) % (count // BATCH) == 0:
            yield max(private_mib(process.pid) for process in multiprocessing.active_children())


def in_a_process(work: Callable[[], Any]) -> Any:
    """Returns what `work` gives, computed in a forked process, so that the two ways do not see each other."""
    read_end, write_end = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=lambda: write_end.send(work()))
    process.start()
    found = read_end.recv()
    process.join()
    return found


def main(options: Sequence[str]) -> int:
    """Measures and prints; `--quick` shows only that it works."""
    warnings.simplefilter("ignore")
    if not Path("/proc/self/smaps_rollup").exists():
        print("listing_memory: needs Linux's /proc/self/smaps_rollup.")
        return 0
    count = 10_000 if "--quick" in options else FILES
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), count)
        arrays = scan(Path(folder))
        ours = in_a_process(lambda: list(sizes(arrays, count, EPOCHS)))
        pairs = [(arrays.train.source(index), int(label)) for index, label in enumerate(arrays.train.labels)]
        listed = Listing(arrays.class_names, Pairs(pairs), arrays.val, arrays.test, "", "")
        theirs = in_a_process(lambda: list(sizes(listed, count, 1)))
    rows = [
        Row(f"growth of a worker from epoch 1 to {EPOCHS} ({ours[0]:.1f} MiB)", (ours[-1] - ours[0],), "MiB", "<= 2"),
        Row("memory of a worker at the end", (ours[-1],), "MiB"),
        Row("with a list of (path, label), after one epoch", (theirs[-1],), "MiB"),
    ]
    show(f"{count:,} listed files, {EPOCHS} epochs, {WORKERS} workers", rows)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
