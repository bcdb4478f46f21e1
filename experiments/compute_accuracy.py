"""Accuracy against pre-training compute: which family is ahead for the same FLOPs, ViT, BiT or hybrid?

paper     An Image is Worth 16x16 Words (ViT, arXiv 2010.11929v2), section 4.4, Figure 5, Table 6
question  Accuracy downstream, averaged over data sets, of ViTs, BiTs and hybrids of several sizes that were pre-trained
          for several lengths, over the FLOPs of that pre-training; and how many times the compute of a ViT a BiT needs
          for the same accuracy.
command   make exp-compute-accuracy [PRESET=cpu|cifar|gpu|paper] [SEEDS=5] [DEVICES=1]
cost      smoke seconds; cpu about 8 minutes and cifar about half an hour on two cores; gpu about an hour on one GPU
          after data_scaling, else two; paper tens of thousands of GPU-hours (`ARGS=--dry-run`)
shared    The longest pre-training at `cifar` and `gpu`, and the middle one at `cpu`, is that of data_scaling with all
          training images, for the models that it has: five of eight, at `cifar` three. They are trained once.
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
Deviation: the weights that are measured are the best on `val` of their pre-training, as in data_scaling, while compute
    is that of the whole pre-training; rates were searched at one length, and serve all.
Deviation: small networks; compute is what the run's own accountant counts, a multiply-add as 2 FLOPs (as in Table 6).
Equality of hybrids and ViTs is judged within 1.5 points.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from vision_repro.analysis.claims import Claim, Judgement, Verdict
from vision_repro.analysis.judges import compute as judges
from vision_repro.analysis.table import Table
from vision_repro.cli import main
from vision_repro.config import RunConfig, Scalar
from vision_repro.experiment import Experiment, Preset
from vision_repro.models.families import family
from vision_repro.presets import bases, captions, scales
from vision_repro.presets.stages import parse, pre_train, starts

SOURCE = "ViT, section 4.4, Figure 5"
MARGIN = 0.015
UPSTREAM = {
    "smoke": replace(bases.DIGITS, train_size=40, global_batch=8, evaluations=1),
    "cpu": bases.DIGITS,
    "cifar": bases.CIFAR,
    "gpu": bases.CIFAR_GPU,
    "paper": replace(bases.IMAGENET21K, weight_decay=0.03, select="last"),
}
"""Preset -> how pre-training is done; `evaluations` is the most there may be."""
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
_MEASURED = RunConfig(
    dataset="digits", image_size=8, budget="none", pretraining="digits@200", shots="", select="last", evaluations=1
)
_CIFAR = replace(
    _MEASURED, dataset="cifar10", image_size=32, pretraining="cifar10@200", train_size=5000, probes="linear"
)


def _axes(models: Sequence[str], starts: Sequence[str], *datasets: str) -> dict[str, tuple[Scalar, ...]]:
    return {"model": tuple(models), "pretraining": tuple(starts), "dataset": datasets}


PRESETS = {
    "smoke": scales.smoke(
        _MEASURED,
        _axes(("vit-32x2/2", "bit-r8x0.15", "r8x0.15+vit-32x2/2"), starts("digits", 1, 2), "digits"),
    ),
    "cpu": scales.cpu(
        _MEASURED,
        _axes(
            (
                "vit-32x2/2", "vit-32x4/2", "vit-64x4/2", "bit-r8x0.15", "bit-r11x0.15", "bit-r11x0.3125",
                "r8x0.15+vit-32x3/2", "r8x0.25+vit-64x3/2",
            ),
            starts("digits", 50, 200, 800), "digits",
        ),
        "about 8 minutes",
    ),
    "cifar": scales.real(
        _CIFAR,
        _axes(
            (
                "vit-64x2/8", "vit-64x4/8", "vit-64x4/4", "bit-r8x0.25/2", "bit-r11x0.3125/2", "bit-r14x0.3125/2",
                "r8x0.25/4+vit-64x4/8", "r8x0.25/2+vit-64x3/4",
            ),
            starts("cifar10", 200, 800), "cifar10", "pets", "flowers17",
        ),
        "about half an hour", data="CIFAR-10, Pets and Flowers-17, or parts of them",
    ),
    "gpu": scales.gpu(
        replace(_CIFAR, train_size=49_000),
        _axes(
            (
                "vit-64x4/4", "vit-128x4/4", "vit-192x6/4", "bit-r11x0.3125/2", "bit-r14x0.3125/2", "bit-r26x0.5/2",
                "r8x0.25/2+vit-64x3/4", "r8x0.25/2+vit-128x4/4",
            ),
            starts("cifar10", 1000, 8000), "cifar10", "cifar100", "pets", "flowers",
        ),
        "about an hour after data_scaling, else two,", seeds=3, data="CIFAR-10 and -100, Pets and Flowers-102",
    ),
    "paper": scales.paper(
        RunConfig(
            dataset="imagenet", image_size=384, pretraining="imagenet21k@104000", steps=20_000, shots="",
            global_batch=512, lr=0.03, optimizer="sgd", weight_decay=0.0, warmup=0.025, augmentation="inception",
            select="last", evaluations=20,
        ),
        _axes(
            (
                "vit-b/32", "vit-b/16", "vit-l/32", "vit-l/16", "vit-h/14", "bit-r50x1", "bit-r50x2", "bit-r101x1",
                "bit-r152x1", "bit-r152x2", "bit-r200x3", "r50+vit-b/32", "r50+vit-b/16", "r50+vit-l/32",
                "r50+vit-l/16",
            ),
            starts("imagenet21k", 104_000, 312_000), *DOWNSTREAM["paper"],
        ),
        "tens of thousands of", "ImageNet-21k-like class folders, the paper's data sets",
    ),
}  # fmt: skip


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
    asked = {"lr": config.lr} if config.budget == "none" and config.lr is not None else {}
    return pre_train(config, parse(config.pretraining), UPSTREAM[name], **asked)


Row = tuple[str, str, Callable[..., Judgement], str]
"""Name, statement, judge and the paper's number."""


def _against_bit() -> list[Row]:
    pair: dict[str, Any] = {"first": "vit", "second": "bit"}
    ratio = f"2 to 4 times; by its Table 6 {judges.paper_ratios(**pair)}"
    accurate, less = partial(judges.more_accurate, **pair), partial(judges.needs_less, **pair)
    return [
        ("vit-beats-bit", "ViTs are more accurate than BiTs at equal compute", accurate, judges.paper_gap(**pair)),
        ("vit-needs-less", "ViTs need less compute than BiTs for the same accuracy", less, ratio),
    ]


def _of_hybrids() -> list[Row]:
    pair: dict[str, Any] = {"first": "hybrid", "second": "vit"}
    small, large = (judges.paper_gap(**pair, part=part) for part in (judges.SMALL, judges.LARGE))
    ahead = partial(judges.ahead_in, part=judges.SMALL, **pair)
    equal = partial(judges.equal_in, part=judges.LARGE, margin=MARGIN, **pair)
    return [
        ("hybrids-ahead-at-small-compute", "Hybrids are ahead of ViTs at small compute", ahead, small),
        ("hybrids-equal-at-large-compute", "At large compute hybrids and ViTs are equal", equal, large),
    ]


def claims(name: str, preset: Preset) -> list[Claim]:
    """Returns the paper's claims about the families that the preset has, on the average over its data sets."""
    metric, words = READINGS[name]
    there = {family(model) for model in captions.models(preset)}
    found = _against_bit() if {"vit", "bit"} <= there else []
    found += _of_hybrids() if {"vit", "hybrid"} <= there else []
    if "vit" in there:
        rising = partial(judges.still_rising, name="vit")
        found.append(("no-saturation", "ViTs do not saturate in the range tried", rising, ""))
    datasets = tuple(map(str, preset.axes["dataset"]))
    return [
        Claim(key, f"{statement} ({words})", SOURCE, partial(judge, metric=metric, datasets=datasets), printed)
        for key, statement, judge, printed in found
    ]


def figure(table: Table, verdicts: Sequence[Verdict], name: str, preset: Preset) -> Any:
    """Returns accuracy over pre-training compute, on average and on one data set, beside the paper's points."""
    from vision_repro.figures.compute import compute_figure

    metric, words = READINGS[name]
    datasets = [str(dataset) for dataset in preset.axes["dataset"]]
    lengths = sorted((parse(str(start)) for start in preset.axes["pretraining"]), key=lambda start: start.steps)
    upstream = " and ".join(dict.fromkeys(start.dataset for start in lengths))
    steps = ", ".join(str(start.steps) for start in lengths)
    notes = (
        f"preset {name}: {words} on {', '.join(datasets)} after supervised pre-training on {upstream} for {steps} "
        f"steps of {UPSTREAM[name].global_batch} images",
        f"models: {', '.join(captions.models(preset))}",
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
