"""A training step on two threads beside another busy process: the suite's OpenMP settings against the default ones.

Two processes, one for each setting, take turns; the one whose turn it is not sleeps.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.timing import Row, in_turns, ratios, show
from vision_repro.training.device import cores

ROOT = Path(__file__).resolve().parents[1]
THREADS = 2
BATCH = 64
BUSY = "while True: pass"
WORK = "from benchmarks.contention import work; work({quiet})"

Worker = subprocess.Popen[str]


def work(quiet: bool) -> None:
    """The life of one process: for each number of seconds that it reads, trains that long and prints images/s."""
    if quiet:
        from vision_repro.training.device import quiet_threads

        quiet_threads()
    import torch

    from benchmarks.workload import a_task, random_split, train
    from vision_repro.augmentation.batch import Batch

    torch.set_num_threads(THREADS)
    task, split = a_task("vit-64x4/2", 8, bf16=False), random_split(BATCH, 8)
    step = partial(
        train, task, task.configure_optimizers()["optimizer"], Batch(split.images, split.labels), bf16=False, steps=1
    )
    for line in sys.stdin:
        start, images, seconds = time.perf_counter(), 0, float(line)
        while time.perf_counter() - start < seconds:
            step()
            images += BATCH
        print(images / (time.perf_counter() - start), flush=True)


@contextmanager
def process(code: str) -> Iterator[Worker]:
    """Starts Python on `code`, without OpenMP settings of ours, and ends it."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_"))}
    child = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env=clean, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def ask(worker: Worker, seconds: float) -> float:
    """Returns the images/s of a worker that trains for `seconds`."""
    assert worker.stdin
    assert worker.stdout
    worker.stdin.write(f"{seconds}\n")
    worker.stdin.flush()
    return float(worker.stdout.readline())


def main(options: Sequence[str]) -> int:
    """Measures and prints; `--quick` shows only that it works."""
    seconds, rounds = (0.5, 1) if "--quick" in options else (1.5, 6)
    with process(WORK.format(quiet=True)) as quiet, process(WORK.format(quiet=False)) as default:
        ways = [partial(ask, worker, seconds) for worker in (quiet, default)]
        alone = in_turns(ways, rounds)
        with process(BUSY):
            beside = in_turns(ways, rounds)
    kept = [ratios(busy, (median(free),) * rounds) for busy, free in zip(beside, alone, strict=True)]
    rows = [
        Row("beside a busy process: the suite's settings against the defaults", ratios(*beside), goal=">= 1"),
        Row("the suite's settings: speed beside a busy process, of the speed alone", kept[0]),
        Row("the defaults: speed beside a busy process, of the speed alone", kept[1]),
        Row("alone: the suite's settings against the defaults", ratios(*alone)),
    ]
    show(f"vit-64x4/2, 8x8, on {THREADS} threads of {cores()} cores", rows)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
