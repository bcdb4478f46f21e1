"""Many small runs, the common case: the forked pool against one plain process a run, in whole wall time.

Both ways train the same model on the same number of images, steps and evaluations, two runs at a time, one thread each;
ours also checks, times bf16, saves weights and writes its results in that time.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.timing import Row, in_turns, ratios, show

ROOT = Path(__file__).resolve().parents[1]
RUNS, STEPS, AT_ONCE, BATCH, TRAIN_SIZE, MODEL = 4, 60, 2, 32, 500, "vit-64x4/2"
POOL = "from benchmarks.figure import pool; pool({folder!r}, {runs})"
START = "from benchmarks.figure import first_steps; first_steps({folder!r}, {runs})"

# The model is the suite's, so that it is the same; all else is what a tutorial shows.
PLAIN = """
import torch, torch.nn.functional as F, torchmetrics
from lightning import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset
from vision_repro.models import build

class Task(LightningModule):
    def __init__(self):
        super().__init__()
        self.model = build({model!r}, image_size=8, classes=10)
        self.accuracy = torchmetrics.Accuracy("multiclass", num_classes=10)
    def training_step(self, batch, index):
        loss = F.cross_entropy(self.model(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss
    def validation_step(self, batch, index):
        self.accuracy(self.model(batch[0]), batch[1])
        self.log("accuracy", self.accuracy)
    test_step = validation_step
    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)

seed_everything({seed})
digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32)[:, None].repeat(1, 3, 1, 1) / 8 - 1
labels = torch.tensor(digits.target)
def loader(part, **options):
    return DataLoader(TensorDataset(images[part], labels[part]), **options)
trainer = Trainer(max_steps={steps}, accelerator="cpu", default_root_dir={folder!r})
task = Task()
trainer.fit(task, loader(slice(0, {train}), batch_size={batch}, shuffle=True),
            loader(slice(1200, 1400), batch_size=200))
trainer.test(task, loader(slice(1400, None), batch_size=200))
"""


def planned(folder: str, runs: int) -> Any:
    """Returns a plan of `runs` seeds on digits, without the few-shot probe, which the plain way lacks."""
    from experiments.data_scaling import EXPERIMENT
    from vision_repro.cli import plan

    return plan(
        EXPERIMENT,
        [
            f"--model={MODEL}",
            f"--train_size={TRAIN_SIZE}",
            f"--global_batch={BATCH}",
            f"--steps={STEPS}",
            "--evaluations=4",
            "--shots=",
            f"--seeds={runs}",
            f"--jobs={AT_ONCE}",
            "--wandb=off",
            "--accelerator=cpu",
            f"--out={folder}",
        ],
    )


def pool(folder: str, runs: int) -> None:
    """Carries out the runs as `python -m experiments.data_scaling` does, up to its table."""
    from vision_repro.training.device import quiet_threads

    quiet_threads()
    from vision_repro.launch.session import do_runs

    code, _ = do_runs(planned(folder, runs))
    sys.exit(code)


def first_steps(folder: str, runs: int) -> None:
    """Prints, for each of `runs` forked runs, the seconds from its start to the end of its first optimizer step."""
    from vision_repro.training.device import quiet_threads

    quiet_threads()
    from vision_repro.launch import pool, preflight, session
    from vision_repro.training.recorder import Recorder

    todo = planned(folder, runs)
    pool.preload()
    preflight.prepare(todo, list(todo.runs))
    context = session.context_maker(todo, "cpu")
    moment, seeded = Path(folder) / "moment", Recorder.on_train_batch_start

    def on_train_batch_start(self: Any, trainer: Any, module: Any, batch: Any, index: int) -> None:
        seeded(self, trainer, module, batch, index)
        if trainer.global_step == 1:  # the monotonic clock is the machine's, one for all processes
            moment.write_text(str(time.monotonic()))

    changed: Any = Recorder
    changed.on_train_batch_start = on_train_batch_start
    for config in todo.runs:
        start = time.monotonic()
        pool.Pool(todo.launch, "cpu", context, lambda config, message: None).run([config])
        print(float(moment.read_text()) - start, flush=True)


def python(code: str, cache: Path, **variables: str) -> subprocess.Popen[str]:
    """Starts Python on `code`, silent but for its answer."""
    environment = os.environ | {"VISION_REPRO_CACHE": str(cache)} | variables
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def answer(process: subprocess.Popen[str]) -> str:
    """Returns what a process prints.

    Raises:
        RuntimeError: if it failed.
    """
    out, error = process.communicate()
    if process.returncode:
        raise RuntimeError(error)
    return out


def ours(cache: Path) -> float:
    """Returns the wall time [s] of all runs by the pool, the start of its parent included."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        answer(python(POOL.format(folder=folder, runs=RUNS), cache))
        return time.perf_counter() - start


def plain(cache: Path) -> float:
    """Returns the wall time [s] of all runs, one process each, two at a time.

    On one thread each, as two of two threads would disturb each other.
    """
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for first in range(0, RUNS, AT_ONCE):
            facts = {"model": MODEL, "steps": STEPS, "batch": BATCH, "train": TRAIN_SIZE, "folder": folder}
            codes = [PLAIN.format(seed=seed, **facts) for seed in range(first, min(first + AT_ONCE, RUNS))]
            for process in [python(code, cache, OMP_NUM_THREADS="1") for code in codes]:
                answer(process)
        return time.perf_counter() - start


def start_up(cache: Path, runs: int) -> tuple[float, ...]:
    """Returns the seconds to the first step of each of `runs` forked runs."""
    with tempfile.TemporaryDirectory() as folder:
        return tuple(map(float, answer(python(START.format(folder=folder, runs=runs), cache)).split()))


def main(options: Sequence[str]) -> int:
    """Measures and prints; `--quick` shows only that it works."""
    rounds = 1 if "--quick" in options else 2
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        started = start_up(cache, 3 if rounds == 1 else 8)  # first: it also brings the libraries into memory
        fast, slow = in_turns([partial(ours, cache), partial(plain, cache)], rounds, warm_up=0)
    what = (
        f"{RUNS} runs of {STEPS} steps, {median(fast) / RUNS:.2f} s a run: wall time of the plain way over the pool's"
    )
    rows = [
        Row(what, ratios(slow, fast), goal=">= 3"),
        Row("a forked run until the end of its first step", started, "s", "<= 0.3"),
    ]
    show(f"Digits, {MODEL}, {AT_ONCE} runs at a time", rows)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
