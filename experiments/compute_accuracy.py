"""Accuracy against pre-training compute: which family is ahead for the same FLOPs, ViT, BiT or hybrid?

paper     An Image is Worth 16x16 Words (ViT, arXiv 2010.11929v2), section 4.4, Figure 5, Table 6
question  Accuracy downstream, averaged over data sets, of ViTs, BiTs and hybrids of several sizes that were pre-trained
          for several lengths, over the FLOPs of that pre-training; and how many times the compute of a ViT a BiT needs
          for the same accuracy.
command   make exp-compute-accuracy [PRESET=cpu|cifar|gpu|paper] [SEEDS=5] [DEVICES=1]
cost      smoke seconds; cpu about 6 minutes and cifar about 12 minutes on two cores; gpu about an hour on one GPU;
          paper tens of thousands of GPU-hours (`ARGS=--dry-run`)
expected  The paper: ViTs need 2 to 4 times less compute than BiTs, hybrids are ahead of ViTs at small compute only, and
          nothing saturates. That is for 50 exaFLOPs and more, on 300 million images; at `cpu` and `cifar` it is open.

A start is `<data set>@<steps>`: supervised pre-training of so many steps, with a schedule of its own. At `cpu` digits
are both trained on and measured; at `cifar` CIFAR-10 is trained on, and measured beside Pets and Flowers-17.

Deviation: supervised pre-training on the 1,200 digits or CIFAR-10's 49,000 images instead of JFT-300M, with AdamW and a
    rate a family from the searches of the experiment data_scaling (other sizes have the family's), instead of Table 3.
Deviation: at `cifar` and `gpu` a linear probe of frozen features, l2 chosen on `val`, instead of fine-tuning at 384
    pixels on each data set, which would take longer than the pre-training it measures; images are of 32 pixels. At
    `cpu` the accuracy of the pre-trained classifier itself.
Deviation: at `cifar` the probe sees 5,000 images of CIFAR-10, 270 of Pets and 648 of Flowers-17, which copies of 3 and
    12 classes have; with full copies more classes share them.
Deviation: `paper` pre-trains on ImageNet-21k for 30 and 90 epochs (JFT is not public) and fine-tunes with Table 4's
    steps at one rate, 0.03, where the paper chooses among four.
Deviation: small networks; compute is what the run's own accountant counts, a multiply-add as 2 FLOPs (as in Table 6).
Equality of hybrids and ViTs is judged within 1.5 points.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from vision_repro.analysis.claims import Claim, Verdict
from vision_repro.analysis.compute import family
from vision_repro.analysis.judges.compute import (
    LARGE,
    SMALL,
    ahead_in,
    equal_in,
    more_accurate,
    needs_less,
    paper_gap,
    paper_ratios,
    still_rising,
)
from vision_repro.analysis.table import Table
from vision_repro.cli import main
from vision_repro.config import RunConfig, UserError
from vision_repro.experiment import Experiment, Preset

SOURCE = "ViT, section 4.4, Figure 5"
MARGIN = 0.015
# Peak learning rates of pre-training by data set, then by model or else by family: those that the searches on `val` of
# the experiment data_scaling found (sweeps/data_scaling_lr_*.yaml); a family has the rate of its largest model there,
# or the ViTs' where no hybrid was searched. ImageNet-21k: ViT, Table 3.
LEARNING_RATES: dict[str, dict[str, float]] = {
    "digits": {"vit": 0.003, "vit-32x4/2": 0.01, "bit": 0.003, "bit-r11x0.15": 0.01, "hybrid": 0.001},
    "cifar10": {"vit": 0.001, "bit": 0.003, "hybrid": 0.001},
    "imagenet21k": {"vit": 0.001, "bit": 0.001, "hybrid": 0.001},
}
UNTUNED = 1e-3
# What pre-training has of its own, as fields of the config, by preset; `evaluations` is the most there may be.
_CIFAR_UPSTREAM = {"train_size": 49_000, "image_size": 32, "augmentation": "crop-flip"}
UPSTREAM: dict[str, dict[str, Any]] = {
    "smoke": {"train_size": 40, "image_size": 8, "global_batch": 8, "augmentation": "none", "evaluations": 1},
    "cpu": {"train_size": 1200, "image_size": 8, "global_batch": 64, "augmentation": "none", "evaluations": 1},
    "cifar": {**_CIFAR_UPSTREAM, "global_batch": 64, "evaluations": 1},
    "gpu": {**_CIFAR_UPSTREAM, "global_batch": 256, "evaluations": 10},
    "paper": {
        "train_size": 14_000_000, "image_size": 224, "global_batch": 4096, "augmentation": "inception",
        "evaluations": 20, "weight_decay": 0.03, "optimizer": "adamw",
    },
}  # fmt: skip
# What a data set downstream has of its own: the most training images, and in `paper` the steps of Table 4.
DOWNSTREAM: dict[str, dict[str, dict[str, int]]] = {
    "cifar": {"pets": {"train_size": 270}, "flowers17": {"train_size": 648}},
    "gpu": {"pets": {"train_size": 3312}, "flowers": {"train_size": 1020}},
    "paper": {
        "imagenet": {"train_size": 1_268_355, "steps": 20_000},
        "hf:cifar10": {"train_size": 49_000, "steps": 10_000},
        "hf:uoft-cs/cifar100:img:fine_label": {"train_size": 49_000, "steps": 10_000},
        "pets": {"train_size": 3312, "steps": 500},
        "flowers": {"train_size": 1020, "steps": 500},
    },
}
# Preset -> the metric, and its name.
READINGS = {
    "smoke": ("test_accuracy", "test accuracy"),
    "cpu": ("test_accuracy", "test accuracy"),
    "cifar": ("linear_accuracy", "accuracy of a linear probe"),
    "gpu": ("linear_accuracy", "accuracy of a linear probe"),
    "paper": ("test_accuracy", "accuracy after fine-tuning"),
}
_START = re.compile(r"(?P<dataset>\S+)@(?P<steps>[1-9]\d*)")


def _starts(dataset: str, *steps: int) -> tuple[str, ...]:
    return tuple(f"{dataset}@{count}" for count in steps)


_DIGITS = RunConfig(
    dataset="digits", image_size=8, budget="none", pretraining="digits@40", shots="", augmentation="none",
    select="last", evaluations=1, precision="fp32",
)  # fmt: skip
_CIFAR = replace(
    _DIGITS, dataset="cifar10", image_size=32, pretraining="cifar10@80", train_size=5000, probes="linear"
)  # fmt: skip

PRESETS = {
    "smoke": Preset(
        base=replace(_DIGITS, train_size=40),
        axes={
            "model": ("vit-32x2/2", "bit-r8x0.15", "r8x0.15+vit-32x2/2"), "pretraining": _starts("digits", 1, 2),
            "dataset": ("digits",),
        },
        seeds=1, cost="seconds; shows that everything works, never evidence", evidence=False,
    ),
    "cpu": Preset(
        base=_DIGITS,
        axes={
            "model": (
                "vit-32x2/2", "vit-32x4/2", "vit-64x4/2", "bit-r8x0.15", "bit-r11x0.15", "bit-r11x0.3125",
                "r8x0.15+vit-32x3/2", "r8x0.25+vit-64x3/2",
            ),
            "pretraining": _starts("digits", 40, 120, 360), "dataset": ("digits",),
        },
        seeds=5, cost="about 6 minutes on two cores; scikit-learn's digits, offline",
    ),
    "cifar": Preset(
        base=_CIFAR,
        axes={
            "model": (
                "vit-64x2/8", "vit-64x4/8", "vit-64x4/4", "bit-r8x0.25/2", "bit-r11x0.3125/2", "bit-r14x0.3125/2",
                "r8x0.25/4+vit-64x4/8", "r8x0.25/2+vit-64x3/4",
            ),
            "pretraining": _starts("cifar10", 60, 300), "dataset": ("cifar10", "pets", "flowers17"),
        },
        seeds=3, cost="about 12 minutes on two cores; CIFAR-10, Pets and Flowers-17, or parts of them",
    ),
    "gpu": Preset(
        base=replace(_CIFAR, train_size=49_000, precision="auto"),
        axes={
            "model": (
                "vit-64x4/4", "vit-128x4/4", "vit-192x6/4", "bit-r11x0.3125/2", "bit-r14x0.3125/2", "bit-r26x0.5/2",
                "r8x0.25/2+vit-64x3/4", "r8x0.25/2+vit-128x4/4",
            ),
            "pretraining": _starts("cifar10", 1000, 4000), "dataset": ("cifar10", "cifar100", "pets", "flowers"),
        },
        seeds=3, cost="about an hour on one GPU; CIFAR-10 and -100, Pets and Flowers-102",
    ),
    "paper": Preset(
        base=RunConfig(
            dataset="imagenet", image_size=384, pretraining="imagenet21k@104000", budget="steps", steps=20_000,
            shots="",
            global_batch=512, lr=0.03, optimizer="sgd", weight_decay=0.0, warmup=0.025, augmentation="inception",
            select="last", evaluations=20,
        ),
        axes={
            "model": (
                "vit-b/32", "vit-b/16", "vit-l/32", "vit-l/16", "vit-h/14", "bit-r50x1", "bit-r50x2", "bit-r101x1",
                "bit-r152x1", "bit-r152x2", "bit-r200x3", "r50+vit-b/32", "r50+vit-b/16", "r50+vit-l/32",
                "r50+vit-l/16",
            ),
            "pretraining": _starts("imagenet21k", 104_000, 312_000), "dataset": tuple(DOWNSTREAM["paper"]),
        },
        seeds=1,
        cost="tens of thousands of GPU-hours; ImageNet-21k-like class folders, the paper's data sets (see --dry-run)",
    ),
}  # fmt: skip


def parse(start: str) -> tuple[str, int]:
    """Returns the data set and the steps of the pre-training that a start names.

    Raises:
        UserError: if it names none.
    """
    match = _START.fullmatch(start)
    if match is None:
        raise UserError(
            f'--pretraining="{start}" is no pre-training: expected <data set>@<steps>, such as cifar10@300.'
        )
    return match["dataset"], int(match["steps"])


def learning_rate(dataset: str, model: str) -> float:
    """Returns the peak learning rate of a model's pre-training."""
    rates: Mapping[str, float] = LEARNING_RATES.get(dataset, {})
    return rates.get(model, rates.get(family(model), UNTUNED))


def fill_defaults(name: str, config: RunConfig) -> RunConfig:
    """Fills in what the data set downstream has of its own; never more training images than were asked for."""
    parse(config.pretraining)
    own = dict(DOWNSTREAM.get(name, {}).get(config.dataset, {}))
    if name == "paper":
        own["image_size"] = 392 if config.model.endswith("/14") else config.image_size  # 384 is no multiple of 14
    elif "train_size" in own:
        own["train_size"] = min(own["train_size"], config.train_size)
    return replace(config, **own)  # type: ignore[arg-type]


def pretraining(name: str, config: RunConfig) -> RunConfig:
    """Returns the supervised pre-training that a run starts from: the same for all data sets downstream."""
    dataset, steps = parse(config.pretraining)
    own = dict(UPSTREAM[name])
    parts = max(count for count in range(1, int(own["evaluations"]) + 1) if steps % count == 0)
    asked = config.lr if config.budget == "none" else None
    own |= {"evaluations": parts, "lr": learning_rate(dataset, config.model) if asked is None else asked}
    return replace(
        config,
        dataset=dataset,
        budget="steps",
        steps=steps,
        pretraining="",
        weights="",
        shots="",
        probes="",
        select="last",
        warmup=RunConfig.warmup,
        **({"weight_decay": RunConfig.weight_decay} | own),
    )


def _against_bit(words: str, options: dict[str, Any]) -> list[Claim]:
    pair: dict[str, Any] = {"first": "vit", "second": "bit"}
    ratio = f"2 to 4 times; by its Table 6 {paper_ratios(**pair)}"
    return [
        Claim(
            "vit-beats-bit",
            f"ViTs are more accurate than BiTs at equal compute ({words})",
            SOURCE,
            partial(more_accurate, **pair, **options),
            paper_gap(**pair),
        ),
        Claim(
            "vit-needs-less",
            f"ViTs need less compute than BiTs for the same accuracy ({words})",
            SOURCE,
            partial(needs_less, **pair, **options),
            ratio,
        ),
    ]


def _of_hybrids(words: str, options: dict[str, Any]) -> list[Claim]:
    pair: dict[str, Any] = {"first": "hybrid", "second": "vit"}
    return [
        Claim(
            "hybrids-ahead-at-small-compute",
            f"Hybrids are ahead of ViTs at small compute ({words})",
            SOURCE,
            partial(ahead_in, part=SMALL, **pair, **options),
            paper_gap(**pair, part=SMALL),
        ),
        Claim(
            "hybrids-equal-at-large-compute",
            f"At large compute hybrids and ViTs are equal ({words})",
            SOURCE,
            partial(equal_in, part=LARGE, margin=MARGIN, **pair, **options),
            paper_gap(**pair, part=LARGE),
        ),
    ]


def claims(name: str, preset: Preset) -> list[Claim]:
    """Returns the paper's claims about the families that the preset has, on the average over its data sets."""
    metric, words = READINGS[name]
    there = {family(str(model)) for model in preset.axes["model"]}
    options: dict[str, Any] = {"metric": metric, "datasets": tuple(map(str, preset.axes["dataset"]))}
    found = _against_bit(words, options) if {"vit", "bit"} <= there else []
    found += _of_hybrids(words, options) if {"vit", "hybrid"} <= there else []
    if "vit" in there:
        rising = partial(still_rising, name="vit", **options)
        found.append(Claim("no-saturation", f"ViTs do not saturate in the range tried ({words})", SOURCE, rising))
    return found


def figure(table: Table, verdicts: Sequence[Verdict], name: str, preset: Preset) -> Any:
    """Returns accuracy over pre-training compute, on average and on one data set, beside the paper's points."""
    from vision_repro.figures.compute import compute_figure

    metric, words = READINGS[name]
    datasets = [str(dataset) for dataset in preset.axes["dataset"]]
    starts = [parse(str(start)) for start in preset.axes["pretraining"]]
    upstream = " and ".join(dict.fromkeys(dataset for dataset, _ in starts))
    steps = ", ".join(str(count) for _, count in sorted(starts, key=lambda item: item[1]))
    notes = (
        f"preset {name}: {words} on {', '.join(datasets)} after supervised pre-training on {upstream} for {steps} "
        f"steps of {UPSTREAM[name]['global_batch']} images",
        f"models: {', '.join(str(model) for model in preset.axes['model'])}",
    )
    return compute_figure(table, verdicts, metric=metric, datasets=datasets, preset=name, notes=notes)


EXPERIMENT = Experiment(
    name="compute_accuracy",
    question="Which family is ahead at equal pre-training compute, ViT, BiT or hybrid? (ViT, section 4.4, Figure 5)",
    presets=PRESETS,
    settings=("model", "pretraining", "dataset"),
    claims=claims,
    figure=figure,
    fill_defaults=fill_defaults,
    pretraining=pretraining,
    shows_seeds=True,
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
