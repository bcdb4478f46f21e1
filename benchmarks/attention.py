"""Attention distance and rollout beside the plain way: time and memory, ViT-B/16 at 224 pixels with random weights.

Time against a plain forward pass of the same images with fused attention. Memory above that of the plain pass, as Linux
counts the peak of a process, against a variant that keeps the matrices of all layers.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.listing_memory import in_a_process
from benchmarks.timing import Row, in_turns, ratios, show
from vision_repro.training.device import cores, quiet_threads

quiet_threads()

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from vision_repro import models  # noqa: E402
from vision_repro.probes.attention import each_attention  # noqa: E402
from vision_repro.probes.attention_distance import BATCH, mean_distances  # noqa: E402
from vision_repro.probes.rollout import joint, joint_row  # noqa: E402

THREADS, SIZE = 2, 224


def normalise(images: Tensor) -> Tensor:
    """Returns uint8 images as float in [-1, 1]."""
    return images / 127.5 - 1


def workload(name: str, count: int) -> tuple[nn.Module, Tensor]:
    """Returns a model and uint8 images, on the benchmark's threads."""
    torch.set_num_threads(min(THREADS, cores()))
    torch.manual_seed(0)
    model = models.build(name, image_size=SIZE, classes=1000).eval()
    return model, torch.randint(0, 256, (count, 3, SIZE, SIZE), dtype=torch.uint8)


@torch.inference_mode()
def plain(model: nn.Module, images: Tensor) -> None:
    """Runs the model on batches of the images, and nothing else."""
    for start in range(0, len(images), BATCH):
        model(normalise(images[start : start + BATCH]))


def streamed(model: nn.Module, images: Tensor) -> None:
    """Measures attention distances as the suite does."""
    mean_distances(model, images, normalise=normalise, batch=BATCH)


def kept(model: nn.Module, images: Tensor) -> None:
    """Runs the model and keeps every layer's matrix."""
    matrices: list[Tensor] = []
    each_attention(model, normalise(images), lambda _, weights: matrices.append(weights))


def seconds(work: Callable[[], Any]) -> float:
    """Returns how long it takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def peak_mib(name: str, count: int, way: Callable[[nn.Module, Tensor], None]) -> float:
    """Returns the largest memory of a process that builds the model and goes this way once [MiB]."""

    def work() -> float:
        way(*workload(name, count))
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

    return float(in_a_process(work))


def memory(name: str, count: int) -> list[Row]:
    """Returns what streaming needs above the plain pass, and how that grows with the number of images."""
    base, ours, most, twice, twice_base = (
        peak_mib(name, number, way)
        for number, way in ((count, plain), (count, streamed), (count, kept), (2 * count, streamed), (2 * count, plain))
    )
    above, growth = max(ours - base, 0), twice - ours - (twice_base - base)
    return [
        Row(f"memory above the plain pass, {count} images ({base:.0f} MiB)", (above,), "MiB"),
        Row("the same with the matrices of all layers kept", (most - base,), "MiB"),
        Row("share of it", (above / (most - base),), goal="<= 0.2"),
        Row(f"growth from {count} to {2 * count} images beyond that of the plain pass", (growth,), "MiB"),
    ]


def rolling(layers: int, heads: int, images: int, rounds: int) -> list[Row]:
    """Returns the speed of rolling out one row over that of the whole product, without and with the mean over heads."""
    start = torch.eye(197)[0]
    matrices = [torch.rand(images, heads, 197, 197).softmax(-1) for _ in range(layers)]
    means = [matrix.mean(1) for matrix in matrices]
    ways: list[Callable[[], Any]] = [
        lambda: joint(means)[:, 0],
        lambda: joint_row(means, start),
        lambda: joint([matrix.mean(1) for matrix in matrices])[:, 0],
        lambda: joint_row([matrix.mean(1) for matrix in matrices], start),
    ]
    whole, row, whole_from_heads, row_from_heads = in_turns([partial(seconds, way) for way in ways], rounds)
    return [
        Row("rollout of the class token: one row against the whole product", ratios(whole, row), goal=">= 1.8"),
        Row("the same, the mean over heads included", ratios(whole_from_heads, row_from_heads), goal=">= 1.8"),
    ]


def main(options: Sequence[str]) -> int:
    """Measures and prints; `--quick` shows only that it works."""
    quick = "--quick" in options
    # 128 images, as in the paper, in turns of one batch
    name, count, rounds = ("vit-ti/16", 4, 1) if quick else ("vit-b/16", BATCH, 4)
    # before this process runs anything on threads, which forked ones would wait for
    rows = memory(name, count) if Path("/proc/self/status").exists() else []
    model, images = workload(name, count)
    plain_times, ours = in_turns([partial(seconds, partial(way, model, images)) for way in (plain, streamed)], rounds)
    what = f"time of the attention distance of {rounds} x {count} images against a plain pass"
    rows.insert(0, Row(what, ratios(ours, plain_times), goal="<= 1.25"))
    rows += rolling(2 if quick else 12, 12, 8, rounds)
    show(f"Attention of {name} at {SIZE} pixels, on {torch.get_num_threads()} threads", rows)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
