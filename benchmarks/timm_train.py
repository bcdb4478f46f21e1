"""A whole training loop, data included: the suite against timm's own train.py, same model, batch and machine.

`--timm=PATH` is a checkout of pytorch-image-models. It reads random images from class folders that are written here or,
with `--data=PATH`, CIFAR-10 from torchvision's folder in `PATH`. It may use all cores and two workers for its data, in
fp32 or in bf16; the better counts.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.timing import Row, best, in_turns, ratios, show, value

MODEL, SIZE, BATCH = "vit-128x4/4", 32, 64
RATE = re.compile(r"Time: [\d.]+s, +([\d.]+)/s")
WARM_UP = 5  # steps left out


def write_images(root: Path, per_class: int) -> None:
    """Writes random PNG files as `{train,validation}/<class>/<number>.png`."""
    import numpy as np
    from PIL import Image

    draw = np.random.default_rng(0)
    for split, count in (("train", per_class), ("validation", 1)):
        for label in range(10):
            folder = root / split / str(label)
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = draw.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")


def architecture() -> list[str]:
    """Returns the options that make timm's command build the suite's model."""
    from vision_repro.models import build

    model: Any = build(MODEL, image_size=SIZE, classes=10)
    facts = {
        "img_size": SIZE,
        "patch_size": model.patch_embed.patch_size[0],
        "embed_dim": model.embed_dim,
        "depth": len(model.blocks),
        "num_heads": model.blocks[0].attn.num_heads,
    }
    shape = [f"{name}={number}" for name, number in facts.items()]
    return ["--model", "vit_tiny_patch16_224", "--img-size", str(SIZE), "--num-classes", "10", "--model-kwargs", *shape]


def theirs(checkout: Path, options: Sequence[str], out: Path, steps: int, bf16: bool) -> float:
    """Returns the median images/s of the first `steps` steps of train.py.

    Raises:
        RuntimeError: if it fails, with what it said.
    """
    command = [
        sys.executable,
        str(checkout / "train.py"),
        *options,
        "--device",
        "cpu",
        "--batch-size",
        str(BATCH),
        "--opt",
        "adamw",
        "--lr",
        "1e-3",
        "--clip-grad",
        "1",
        "--smoothing",
        "0",
        "--color-jitter",
        "0",
        "--train-crop-mode",
        "rkrc",
        "--train-num-samples",
        str(steps * BATCH),
        "--epochs",
        "1",
        "--warmup-epochs",
        "0",
        "--cooldown-epochs",
        "0",
        "--workers",
        "2",
        "--log-interval",
        "1",
        "--output",
        str(out),
        *(["--amp", "--amp-dtype", "bfloat16"] if bf16 else []),
    ]
    clean = {key: item for key, item in os.environ.items() if not key.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run(command, env=clean, capture_output=True, text=True)
    rates = [float(rate) for rate in RATE.findall(done.stdout + done.stderr)][WARM_UP:]
    if done.returncode or not rates:
        raise RuntimeError(f"{checkout}/train.py failed:\n{done.stderr[-2000:]}")
    return median(rates)


def ours(root: Path, steps: int) -> float:
    """Returns the images/s of the suite on all cores, with crop and flip."""
    from vision_repro.training.device import cores, cpu_has_bf16, quiet_threads

    quiet_threads()
    import torch

    from benchmarks import step, workload

    step.silence()
    torch.set_num_threads(cores())
    config = replace(step.a_config(MODEL, SIZE, steps), augmentation="crop-flip")
    context = workload.a_place(root, config, "bf16" if cpu_has_bf16() else "fp32")
    return BATCH / step.with_lightning(config, context, workload.random_data(config))


def main(options: Sequence[str]) -> int:
    """Measures and prints; `--quick` shows only that it works."""
    checkout, given = value(options, "timm"), value(options, "data")
    if not (Path(checkout) / "train.py").is_file() or not checkout:
        print("\ntimm_train is skipped: it needs --timm=PATH, a checkout of pytorch-image-models with its train.py.")
        return 0
    steps, rounds = (WARM_UP + 4, 1) if "--quick" in options else (WARM_UP + 25, 2)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if not given:
            write_images(root / "images", -(-steps * BATCH // 10))
        data = ["--data-dir", given or str(root / "images"), *(["--dataset", "torch/cifar10"] if given else [])]
        run = partial(theirs, Path(checkout).resolve(), [*data, *architecture()], root / "out", steps)
        fast, *slow = in_turns([partial(ours, root, steps), partial(run, False), partial(run, True)], rounds, warm_up=0)
    rows = [Row(f"{median(fast):.0f} images/s, against the better of timm's", ratios(fast, best(slow)))]
    for name, rates in zip(("fp32", "bf16"), slow, strict=True):
        rows.append(Row(f"against timm's train.py in {name}, {median(rates):.0f} images/s", ratios(fast, rates)))
    show(f"A whole loop, {MODEL}, {SIZE}x{SIZE}, {'CIFAR-10' if given else 'random images'}", rows)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
