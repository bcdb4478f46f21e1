"""What bf16 buys on this processor: whole training steps against fp32, each with the attention that suits it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from statistics import median

from benchmarks.timing import Row, in_turns, ratios, show
from vision_repro.training.device import cores, cpu_has_bf16, quiet_threads

quiet_threads()

import torch  # noqa: E402

from benchmarks.workload import a_task, random_split, train  # noqa: E402
from vision_repro.augmentation.batch import Batch  # noqa: E402

# model, image size [pixels]
MODELS = (("vit-128x4/4", 32), ("bit-r14x0.3125/2", 32), ("bit-r26x0.5", 32))
THREADS = 2
BATCH = 64


def compare(model_name: str, size: int, steps: int, rounds: int) -> Row:
    """Returns the speed of bf16 over that of fp32."""
    split = random_split(BATCH, size)
    batch = Batch(split.images, split.labels)
    ways = []
    for bf16 in (False, True):
        task = a_task(model_name, size, bf16)
        ways.append(partial(train, task, task.configure_optimizers()["optimizer"], batch, bf16, steps))
    plain, fast = in_turns(ways, rounds)
    what = f"{model_name}, {size}x{size}, {BATCH / median(fast):.0f} images/s in bf16: images/s against fp32"
    return Row(what, ratios(plain, fast), goal=">= 1.8")


def main(options: Sequence[str]) -> int:
    """Measures and prints; `--quick` shows only that it works."""
    quick = "--quick" in options
    torch.set_num_threads(min(THREADS, cores()))
    torch.set_float32_matmul_precision("highest")
    if not cpu_has_bf16():
        print("\nThis processor has no bf16: the suite uses fp32 on it, and there is nothing to compare.")
        return 0
    rows = [compare(name, size, 1 if quick else 3, 1 if quick else 4) for name, size in MODELS]
    show(f"bf16 against fp32, on {torch.get_num_threads()} threads", rows)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
