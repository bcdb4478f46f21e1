"""A training step on two threads beside another busy process: the suite's OpenMP settings against the default ones.

Two processes, one a setting, take turns; the one whose turn it is not sleeps.
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
from typing import Any

from benchmarks.timing import Row, in_turns, ratios, show

ROOT = Path(__file__).resolve().parents[1]
THREADS = 2
BUSY = "while True: pass"


def work(quiet: bool) -> None:
    """The life of one process: for each line it reads, a number of seconds, it trains that long and prints images/s."""
    if quiet:
        from vision_repro.launch.device import quiet_threads

        quiet_threads()
    import torch

    from benchmarks.precision_step import trainer

    torch.set_num_threads(THREADS)
    step = trainer("vit-64x4/2", 8)
    for line in sys.stdin:
        start, images = time.perf_counter(), 0
        while images == 0 or time.perf_counter() - start < float(line):
            images += step()
        print(images / (time.perf_counter() - start), flush=True)
