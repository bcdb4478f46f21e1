"""Masked patch prediction: what does pre-training without labels give, and which of its targets is best?

paper     An Image is Worth 16x16 Words (ViT, arXiv 2010.11929v2), section 4.6 and appendix B.1.2 (no code released)
question  Accuracy of one ViT after fine-tuning with few and with many labels, and of probes on its frozen features:
          from scratch, after supervised pre-training on the same images, and after predicting corrupted patches; by
          target (mean colour, 4 x 4 colours, all pixels), share of corrupted patches (50 %, 15 %) and steps. MAE
          (arXiv 2111.06377), which is not the paper's, stands beside it.
command   make exp-masked-patch [PRESET=cpu|cifar|gpu|paper] [SEEDS=5] [DEVICES=1]
cost      smoke seconds; cpu about 8 minutes and cifar about 45 minutes on two cores; gpu about an hour on one GPU;
          paper thousands of GPU-hours (`ARGS=--dry-run`)
expected  The paper, on ImageNet: 77.9 % from scratch, 79.9 % after masked patch prediction, 4 points more after
          supervised pre-training; mean colour has the best few-shot accuracy, 50 % beats 15 %, and after 100k of 1M
          steps gains diminish. At `cpu` and `cifar` pre-training sees the images that have labels, not 300 million
          others: little is to be gained where all labels are used.

The words that `--pretraining` takes are explained in `vision_repro/presets/masked.py`.

Deviation: pre-trained on the training images of the preset's own data set instead of JFT-300M; few-shot and linear
    probes are of that data set too, not of ImageNet.
Deviation: small ViTs, AdamW with one learning rate in all stages; the paper has Adam at 2e-4 in pre-training and SGD in
    fine-tuning. The rates are untuned: at `cpu` 5e-3 lies between the 3e-3 and 1e-2 that the experiment data_scaling
    found on `val` for two such models from scratch, at `cifar` 1e-3 is what it found. The length of pre-training at
    `cpu` was set after a look at one seed: with 400 steps of a larger model nothing beyond the next lines was learned.
Deviation: training from scratch takes as many steps as pre-training and fine-tuning together. The paper's took 300
    epochs of ImageNet, more images with labels than fine-tuning sees but fewer than pre-training does.
Deviation: patches of 2 pixels, as at `cpu`, have 4 colours to predict instead of 16.
Deviation: MAE keeps the class token, the learning rate and the augmentation of the others.
For some hundred steps a model predicts how often a colour is at a place, and its features get worse; only then it
learns from the other patches. Where that takes longer than the shortest pre-training, gains cannot flatten.
What the paper leaves open (bins, order, exactly half or each with probability 1/2, other patches of which image) is
settled in `vision_repro/tasks/masked_patch.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from vision_repro.analysis.claims import Claim, Judge, Verdict
from vision_repro.analysis.judges.comparisons import compare, jointly
from vision_repro.analysis.judges.pretraining import flattens
from vision_repro.analysis.summary import SummaryRow
from vision_repro.analysis.table import Setting
from vision_repro.cli import main
from vision_repro.config import RunConfig
from vision_repro.experiment import Experiment, Preset
from vision_repro.presets.masked import PAPER, PAPER_STAGES, SCRATCH, Stages, Start, left_out, lengths, origin

SOURCE = "ViT, section 4.6"
DETAILS = "ViT, section B.1.2"
OURS = "mean-colour"
"""The target of the paper's main result."""
STAGES = {
    "smoke": Stages({"steps": 4, "train_size": 40, "evaluations": 1}),
    "cpu": Stages({"steps": 1200, "train_size": 1200, "evaluations": 5}, lr=5e-3),
    "cifar": Stages({"steps": 1200, "train_size": 49000, "evaluations": 5}),
    "gpu": Stages({"steps": 16000, "train_size": 49000, "evaluations": 20}),
    "paper": PAPER_STAGES,
}


def _grid(short: Sequence[int], few: int, many: int) -> dict[str, Any]:
    """Returns the grid: all starts, some of them shorter, fine-tuned (`steps`) and frozen (`none`)."""
    whole = (SCRATCH, "supervised", "mean-colour", "mean-colour-15", "downsized", "pixels", "mae")
    starts = (*whole, *(f"mean-colour@{steps}" for steps in short))
    axes = {"pretraining": starts, "budget": ("steps", "none"), "train_size": (few, many)}
    return {"axes": axes, "skip": partial(left_out, few=few, many=many)}


_DIGITS = RunConfig(
    dataset="digits", image_size=8, model="vit-32x3/2", steps=200, global_batch=64, evaluations=5, shots=""
)
_CIFAR = RunConfig(
    dataset="cifar10", image_size=32, model="vit-64x4/4", steps=300, global_batch=64, evaluations=5, shots="",
    augmentation="crop-flip",
)  # fmt: skip

PRESETS = {
    "smoke": Preset(
        base=replace(_DIGITS, model="vit-32x2/2", steps=2, evaluations=1, draws=1), **_grid((1, 2), 20, 40), seeds=1,
        cost="seconds; shows that everything works, never evidence", evidence=False,
    ),
    "cpu": Preset(
        base=_DIGITS, **_grid((75, 300), 100, 1200), seeds=5,
        cost="about 8 minutes on two cores; scikit-learn's digits, offline",
    ),
    "cifar": Preset(
        base=_CIFAR, **_grid((75, 300), 500, 49000), seeds=3, cost="about 45 minutes on two cores; CIFAR-10",
    ),
    "gpu": Preset(
        base=replace(_CIFAR, model="vit-128x4/4", steps=2000, global_batch=256, evaluations=20),
        **_grid((1000, 4000), 500, 49000), seeds=3,
        cost="about an hour on one GPU; CIFAR-10, or ARGS=--dataset=cifar100",
    ),
    "paper": Preset(
        base=replace(
            _CIFAR, dataset="imagenet", image_size=384, model="vit-b/16", steps=20_000, global_batch=512,
            evaluations=20, warmup=0.025, weight_decay=0.0, optimizer="sgd", augmentation="inception",
        ),
        **_grid((10_000, 100_000), 13_000, 1_268_000), seeds=1,
        cost="thousands of GPU-hours; JFT-like class folders in place of JFT, and ImageNet (see --dry-run)",
    ),
}  # fmt: skip


def fill_defaults(name: str, config: RunConfig) -> RunConfig:
    """Fills in what the stage of a run has of its own."""
    return STAGES[name].filled(config)


def pretraining(name: str, config: RunConfig) -> RunConfig | None:
    """Returns the pre-training that a run starts from."""
    return STAGES[name].pretraining_of(config)


def _sizes(preset: Preset) -> list[int]:
    """Returns the numbers of labels, ascending."""
    return sorted(int(str(size)) for size in preset.axes["train_size"])


def _tuned(start: str, size: int) -> Setting:
    return {"pretraining": start, "budget": "steps", "train_size": size}


def _frozen(start: str, size: int) -> Setting:
    return {"pretraining": start, "budget": "none", "train_size": size}


def _lengths(preset: Preset, name: str) -> dict[int, str]:
    """Returns the starts of the mean colour by the steps of their pre-training."""
    return lengths(map(str, preset.axes.get("pretraining", ())), Start(OURS, 0.5, STAGES[name].steps))


def _higher(first: Setting, second: Setting, subject: str, metric: str = "test_accuracy") -> Judge:
    return partial(compare, first=first, second=second, subject=subject, metric=metric)


_AFTER_FINE_TUNING = (
    ("beats-scratch", "Masked patch prediction beats training from scratch", OURS, "", "+2 points"),
    ("behind-supervised", "Supervised pre-training beats masked patch prediction", "supervised", OURS, "+4 points"),
)
"""Claim, statement, the better start, the other one, and what the paper prints for all labels."""


def _after_fine_tuning(size: int, printed: bool) -> list[Claim]:
    return [
        Claim(
            f"{key}:{size}",
            f"{statement} (fine-tuned with {size:,} labels)",
            SOURCE,
            _higher(_tuned(a, size), _tuned(b, size), f"{a} minus {b or SCRATCH} at {size:,} labels"),
            paper if printed else "",
        )
        for key, statement, a, b, paper in _AFTER_FINE_TUNING
    ]


def _frozen_features(starts: set[str], size: int) -> list[Claim]:
    """Returns the claims on 5-shot accuracy, for the targets there are."""

    def above(other: str) -> Judge:
        first, second = _frozen(OURS, size), _frozen(other, size)
        return _higher(first, second, f"mean-colour minus {other}", "few_shot_5")

    targets = [above(start) for start in ("downsized", "pixels") if start in starts]
    best = partial(jointly, judges=targets, subject="mean-colour minus another target")
    statement = "Of the targets, the mean colour is best (5-shot accuracy)"
    found = [Claim("mean-colour-is-best:few_shot_5", statement, DETAILS, best)] if targets else []
    if "mean-colour-15" in starts:
        statement = "Corrupting 50 % of the patches beats 15 % (5-shot accuracy)"
        found.append(Claim("half-beats-15:few_shot_5", statement, DETAILS, above("mean-colour-15")))
    return found


def claims(name: str, preset: Preset) -> list[Claim]:
    """Returns the paper's claims for the starts, sizes and budgets there are; MAE is in none of them."""
    starts = {str(start).replace(SCRATCH, "") for start in preset.axes.get("pretraining", ())}
    budgets, sizes, by_steps = preset.axes["budget"], _sizes(preset), _lengths(preset, name)
    few, most = sizes[0], sizes[-1]
    found: list[Claim] = []
    if "steps" in budgets and {"", "supervised", OURS} <= starts:
        found += [claim for size in sizes for claim in _after_fine_tuning(size, size == most)]
    if "none" in budgets and OURS in starts:
        found += _frozen_features(starts, most)
    for budget, metric, words, at in (
        ("steps", "test_accuracy", f"fine-tuned with {few:,} labels", partial(_tuned, size=few)),
        ("none", "few_shot_5", "5-shot accuracy", partial(_frozen, size=most)),
    ):
        if budget in budgets and len(by_steps) >= 3:
            settings = {steps: at(start) for steps, start in by_steps.items()}
            subject = f"first minus last gain a doubling ({words})"
            judge = partial(flattens, lengths=settings, subject=subject, metric=metric)
            statement = f"The gains of longer pre-training diminish ({words})"
            found.append(Claim(f"gains-flatten:{metric}", statement, DETAILS, judge))
    return found


def figure(rows: Sequence[SummaryRow], verdicts: Sequence[Verdict], name: str, preset: Preset) -> Any:
    """Returns accuracy by start, fine-tuned and frozen, and against the steps of pre-training, beside the paper's."""
    from vision_repro.figures.appearance import appearance
    from vision_repro.figures.series import along, entry, printed
    from vision_repro.figures.study import Curves, Dots, study_figure

    base, own = preset.shared, STAGES[name].pretraining
    words = [str(word) for word in preset.axes.get("pretraining", ()) if "@" not in str(word)]
    sizes = _sizes(preset)
    readings = [(f"Fine-tuned, {size:,} labels [%]", "test_accuracy", partial(_tuned, size=size)) for size in sizes]
    readings += [
        ("5-shot, frozen [%]", "few_shot_5", partial(_frozen, size=sizes[-1])),
        ("Linear, frozen [%]", "linear_accuracy", partial(_frozen, size=sizes[-1])),
    ]
    panels: list[Curves | Dots] = [
        Dots(title, [entry(rows, metric, at(start), label, role=role) for start, label, role in map(origin, words)])
        for title, metric, at in readings
    ]
    lengths = _lengths(preset, name)
    lines = [
        along(rows, metric, {n: at(start) for n, start in lengths.items()}, title[:-4], baseline=at(""))
        for title, metric, at in (readings[0], *readings[len(sizes) :])
    ]
    panels.append(Curves("By steps of pre-training [%]", lines, xlabel="steps (mean colour, 50 %)", xlog=True))
    panels.append(Dots("Paper: ImageNet [%]", [printed(label, value) for label, value in PAPER.items()]))
    alone = "both together" if "steps" not in STAGES[name].scratch else f"{STAGES[name].scratch['steps']:,}"
    notes = (
        f"{appearance(base.model).label} on {base.dataset}, preset {name}: pre-training takes {own['steps']:,} steps "
        f"on {own['train_size']:,} images, fine-tuning {base.steps:,} steps of {base.global_batch} images, training "
        f"without pre-training {alone}; best weights on val; lr {STAGES[name].lr:g}, untuned; supervised pre-training "
        "is on the same images; MAE is not the paper's; dashed: without pre-training",
        "the paper: ViT-B/16 on ImageNet, pre-trained on JFT-300M for 1M steps; supervised is 4 points above 79.9 %",
    )
    return study_figure(rows, verdicts, panels=panels, preset=name, notes=notes)


EXPERIMENT = Experiment(
    name="masked_patch",
    question="What does pre-training without labels give, with which target? (ViT, section 4.6)",
    presets=PRESETS,
    settings=("pretraining", "budget", "train_size"),
    claims=claims,
    figure=figure,
    fill_defaults=fill_defaults,
    pretraining=pretraining,
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
