"""Many processes that finish runs at once on one folder, one killed: `python -m tests.table_writers FOLDER 200 with`.

No torch here: a fork costs milliseconds. Prints one line a round in which the table was not that of the runs.
"""

from __future__ import annotations

import csv
import errno
import fcntl
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from vision_repro.config import RunConfig
from vision_repro.store.lock import Lock
from vision_repro.store.runs import RunFolder
from vision_repro.store.table import TableSpec, write_table

WRITERS = 8
METRICS = ("test_accuracy", "few_shot_5", "val_accuracy")
SPEC = TableSpec("x", "cpu", ("model", "train_size"))


def without_locks(*given: Any) -> None:
    """Answers as a network file system without locks does."""
    raise OSError(errno.ENOLCK, "No locks available")


def finish(root: Path, configs: list[RunConfig], number: int) -> None:
    """Finishes a run and writes the table, as a trial does."""
    folder = RunFolder(root / "runs", configs[number])
    with Lock(folder.path):
        value = (0.5 + number / 100, "fraction")
        if folder.result() is None:
            folder.open()
            folder.finish("ok", {"val_accuracy": value}, {})
        for which in folder.missing():
            folder.add(which, {"test_accuracy" if which.name == "accuracy" else "few_shot_5": value}, {})
    with Lock(root):
        write_table(root / "table.csv", SPEC, [RunFolder(root / "runs", config) for config in configs])


def forked(root: Path, configs: list[RunConfig], number: int) -> int:
    """Returns the id of a child that finishes a run."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            finish(root, configs, number)
            code = 0
        finally:
            os._exit(code)
    return child


def faults(root: Path, configs: list[RunConfig], expected: set[int]) -> list[str]:
    """Returns what is wrong with a table that must have the rows of at least these runs, each once."""
    with (root / "table.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    found = Counter((line["run"], line["metric"]) for line in lines)
    wanted = {(RunFolder(root, configs[number]).id, name) for number in expected for name in METRICS}
    doubled = [str(key) for key, count in found.items() if count > 1]
    lost = [str(key) for key in wanted if key not in found]
    halved = [str(key) for key in found if (key[0], METRICS[-1]) not in found]
    left = [file.name for file in root.rglob("*.tmp")][1:]  # one is what the killed writer was at
    return [f"doubled {key}" for key in doubled] + [f"lost {key}" for key in lost + halved] + left


def play(root: Path, chance: random.Random, locks: bool) -> list[str]:
    """Returns the faults of a round: eight runs end at once, one is killed, and it is done again."""
    configs = [RunConfig(model="m", train_size=20 + number, shots="5") for number in range(WRITERS)]
    children = {forked(root, configs, number): number for number in range(WRITERS)}
    victim = chance.choice(list(children))
    time.sleep(chance.uniform(0, 0.03))
    os.kill(victim, signal.SIGKILL)
    codes = {number: os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child, number in children.items()}
    lost = children[victim]
    bad = [f"writer {number} ended with {code}" for number, code in codes.items() if code and number != lost]
    if locks:
        bad += faults(root, configs, {number for number, code in codes.items() if not code})
    if codes[lost]:
        os.waitpid(forked(root, configs, lost), 0)
    return bad + faults(root, configs, set(range(WRITERS)))


def main(folder: str, rounds: str, locks: str) -> int:
    """Plays the rounds; returns 1 if one had a fault."""
    os.fsync = lambda file: None  # type: ignore[assignment]  # processes are killed here, not the machine
    if locks == "without":
        fcntl.flock = without_locks  # type: ignore[assignment]
    chance = random.Random(0)
    bad = 0
    for number in range(int(rounds)):
        root = Path(folder) / str(number)
        root.mkdir()
        for fault in play(root, chance, locks == "with"):
            bad = 1
            print(f"round {number}: {fault}")
        shutil.rmtree(root)
    return bad


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
