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

A start is `supervised` or `<target>[-<percent corrupted>]`, with `@<steps>` for a shorter pre-training: `mean-colour`,
`mean-colour-15`, `pixels`, `mae`, `mean-colour@100`. `scratch` is none, and empty in the table.

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

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from vision_repro.analysis.claims import Claim, Evidence, Judgement, Verdict
from vision_repro.analysis.judges.comparisons import compare, jointly
from vision_repro.analysis.judges.pretraining import flattens
from vision_repro.analysis.summary import SummaryRow
from vision_repro.analysis.table import Setting
from vision_repro.cli import main
from vision_repro.config import FRESH, RunConfig, UserError
from vision_repro.experiment import Experiment, Preset

SOURCE = "ViT, section 4.6"
DETAILS = "ViT, section B.1.2"
DRAWS = 10
"""Random draws of the few-shot images: more than usual, as the targets differ by less than draws do."""
SCRATCH = "scratch"
TARGETS = {"mean-colour": "mean colour", "downsized": "4 x 4 colours", "pixels": "all pixels", "mae": "MAE"}
_START = re.compile(rf"(?P<objective>supervised|{'|'.join(TARGETS)})(?:-(?P<percent>[1-9]\d?))?(?:@(?P<steps>\d+))?")


@dataclass(frozen=True)
class Start:
    """A pre-training: its objective, the share of corrupted patches, and its steps, None for those of the preset."""

    objective: str
    corrupted: float
    steps: int | None

    @property
    def label(self) -> str:
        """The name in a figure."""
        if self.objective == "supervised":
            return "supervised"
        return f"{TARGETS[self.objective]}, {100 * self.corrupted:.0f} %"


def parse(start: str) -> Start | None:
    """Returns the pre-training that a start names; None for the empty one and for `scratch`.

    Raises:
        UserError: for any other word.
    """
    if start in ("", SCRATCH):
        return None
    match = _START.fullmatch(start)
    if match is None or (match["objective"] == "supervised" and match["percent"]) or match["steps"] == "0":
        raise UserError(
            f'--pretraining="{start}" is no pre-training: expected scratch, supervised, or {", ".join(TARGETS)}, with '
            "-<percent corrupted> and @<steps> behind if you like, such as mean-colour-15 or mean-colour@100."
        )
    usual = 0.75 if match["objective"] == "mae" else 0.5
    share = int(match["percent"]) / 100 if match["percent"] else usual
    return Start(match["objective"], share, int(match["steps"]) if match["steps"] else None)


@dataclass(frozen=True)
class Stages:
    """What runs of a preset have of their own in pre-training and from scratch, as fields of the config."""

    pretraining: Mapping[str, Any]
    scratch: Mapping[str, Any] = field(default_factory=dict)
    lr: float = 1e-3


STAGES = {
    "smoke": Stages({"steps": 4, "train_size": 40, "evaluations": 1}),
    "cpu": Stages({"steps": 1200, "train_size": 1200, "evaluations": 5}, lr=5e-3),
    "cifar": Stages({"steps": 1200, "train_size": 49000, "evaluations": 5}),
    "gpu": Stages({"steps": 16000, "train_size": 49000, "evaluations": 20}),
    "paper": Stages(
        {
            "dataset": "imagenet21k", "image_size": 224, "train_size": 14_000_000, "steps": 1_000_000, "lr": 2e-4,
            "global_batch": 4096, "warmup": 0.01, "weight_decay": 0.1, "grad_clip": 1.0, "optimizer": "adamw",
            "evaluations": 100,
        },
        {
            "image_size": 224, "steps": 93_000, "lr": 3e-3, "global_batch": 4096, "warmup": 0.1, "weight_decay": 0.3,
            "optimizer": "adamw",
        },
        lr=0.03,
    ),
}  # fmt: skip


def _axes(short: Sequence[int], few: int, many: int) -> dict[str, tuple[Any, ...]]:
    """Returns the grid: all starts, some of them shorter, fine-tuned (`steps`) and frozen (`none`)."""
    whole = (SCRATCH, "supervised", "mean-colour", "mean-colour-15", "downsized", "pixels", "mae")
    starts = (*whole, *(f"mean-colour@{steps}" for steps in short))
    return {"pretraining": starts, "budget": ("steps", "none"), "train_size": (few, many)}


def left_out(config: RunConfig, few: int, many: int) -> bool:
    """Returns whether a point of the grid is not run.

    Frozen features do not depend on the labels of fine-tuning, and shorter pre-training is fine-tuned with few labels.
    """
    if config.budget == "none":
        return config.train_size == few
    return "@" in config.pretraining and config.train_size == many


_DIGITS = RunConfig(
    dataset="digits", image_size=8, model="vit-32x3/2", steps=200, global_batch=64, evaluations=5, shots=""
)
_CIFAR = RunConfig(
    dataset="cifar10", image_size=32, model="vit-64x4/4", steps=300, global_batch=64, evaluations=5, shots="",
    augmentation="crop-flip",
)  # fmt: skip

PRESETS = {
    "smoke": Preset(
        base=replace(_DIGITS, model="vit-32x2/2", steps=2, evaluations=1, draws=1), axes=_axes((1, 2), 20, 40),
        seeds=1, cost="seconds; shows that everything works, never evidence", evidence=False,
        skip=partial(left_out, few=20, many=40),
    ),
    "cpu": Preset(
        base=_DIGITS, axes=_axes((75, 300), 100, 1200), seeds=5,
        cost="about 8 minutes on two cores; scikit-learn's digits, offline",
        skip=partial(left_out, few=100, many=1200),
    ),
    "cifar": Preset(
        base=_CIFAR, axes=_axes((75, 300), 500, 49000), seeds=3, cost="about 45 minutes on two cores; CIFAR-10",
        skip=partial(left_out, few=500, many=49000),
    ),
    "gpu": Preset(
        base=replace(_CIFAR, model="vit-128x4/4", steps=2000, global_batch=256, evaluations=20),
        axes=_axes((1000, 4000), 500, 49000), seeds=3,
        cost="about an hour on one GPU; CIFAR-10, or ARGS=--dataset=cifar100",
        skip=partial(left_out, few=500, many=49000),
    ),
    "paper": Preset(
        base=replace(
            _CIFAR, dataset="imagenet", image_size=384, model="vit-b/16", steps=20_000, global_batch=512,
            evaluations=20, warmup=0.025, weight_decay=0.0, optimizer="sgd", augmentation="inception",
        ),
        axes=_axes((10_000, 100_000), 13_000, 1_268_000), seeds=1,
        cost="thousands of GPU-hours; JFT-like class folders in place of JFT, and ImageNet (see --dry-run)",
        skip=partial(left_out, few=13_000, many=1_268_000),
    ),
}  # fmt: skip


def fill_defaults(name: str, config: RunConfig) -> RunConfig:
    """Fills in the learning rate, the probes of frozen weights, and what training from scratch has of its own."""
    scratch, stages = parse(config.pretraining) is None, STAGES[name]
    own: dict[str, Any] = {"pretraining": ""} if scratch else {}
    if config.budget == "none":
        own |= {"shots": config.shots or "5", "probes": config.probes or "linear", "lr": None}
        own["draws"] = DRAWS if config.draws == RunConfig.draws else config.draws
        return replace(config, **own, weights=FRESH if scratch else config.weights)
    if scratch:
        own |= {"steps": config.steps + int(stages.pretraining["steps"]), **stages.scratch}
    return replace(config, **{"lr": stages.lr, **own, **({} if config.lr is None else {"lr": config.lr})})


def pretraining(name: str, config: RunConfig) -> RunConfig | None:
    """Returns the pre-training that a run starts from: on all images of the preset, its last weights."""
    start, stages = parse(config.pretraining), STAGES[name]
    if start is None:
        return None
    own: dict[str, Any] = {"lr": stages.lr, **stages.pretraining, "objective": start.objective}
    steps = own["steps"] = start.steps or int(own["steps"])
    own["evaluations"] = max(count for count in range(1, int(own["evaluations"]) + 1) if steps % count == 0)
    own["corrupted"] = RunConfig.corrupted if start.objective == "supervised" else start.corrupted
    own |= {
        "budget": "steps",
        "select": "last",
        "train_on_val": False,
        "polyak": 0.0,
        "views": "crop",
        "draws": RunConfig.draws,
    }
    return replace(config, pretraining="", weights="", shots="", probes="", **own)


def _sizes(preset: Preset) -> list[int]:
    """Returns the numbers of labels, ascending."""
    return sorted(int(str(size)) for size in preset.axes["train_size"])


def _tuned(start: str, size: int) -> Setting:
    return {"pretraining": start, "budget": "steps", "train_size": size}


def _frozen(start: str, size: int) -> Setting:
    return {"pretraining": start, "budget": "none", "train_size": size}


def _best(evidence: Evidence, others: Sequence[str], size: int) -> Judgement:
    metric = "few_shot_5"
    each = [
        partial(
            compare,
            first=_frozen("mean-colour", size),
            second=_frozen(other, size),
            subject=f"mean-colour minus {other}",
            metric=metric,
        )
        for other in others
    ]
    return jointly(evidence, each, subject="mean-colour minus another target")


def _lengths(preset: Preset, name: str) -> dict[int, str]:
    """Returns the starts of the mean colour by the steps of their pre-training."""
    found = {}
    for word in preset.axes.get("pretraining", ()):
        start = parse(str(word))
        if start and (start.objective, start.corrupted) == ("mean-colour", 0.5):
            found[start.steps or int(STAGES[name].pretraining["steps"])] = str(word)
    return dict(sorted(found.items()))


def _against(name: str, statement: str, first: Setting, second: Setting, subject: str, **more: str) -> Claim:
    metric = more.get("metric", "test_accuracy")
    judge = partial(compare, first=first, second=second, subject=subject, metric=metric)
    return Claim(name, statement, more.get("source", SOURCE), judge, more.get("paper", ""))


def _after_fine_tuning(size: int, paper: bool) -> list[Claim]:
    scratch, supervised, ours = (_tuned(start, size) for start in ("", "supervised", "mean-colour"))
    return [
        _against(
            f"beats-scratch:{size}",
            f"Masked patch prediction beats training from scratch (fine-tuned with {size:,} labels)",
            ours,
            scratch,
            f"mean-colour minus scratch at {size:,} labels",
            paper="+2 points" if paper else "",
        ),
        _against(
            f"behind-supervised:{size}",
            f"Supervised pre-training beats masked patch prediction (fine-tuned with {size:,} labels)",
            supervised,
            ours,
            f"supervised minus mean-colour at {size:,} labels",
            paper="+4 points" if paper else "",
        ),
    ]


def claims(name: str, preset: Preset) -> list[Claim]:
    """Returns the paper's claims for the starts, sizes and budgets there are; MAE is in none of them."""
    starts = {str(start).replace(SCRATCH, "") for start in preset.axes.get("pretraining", ())}
    sizes = _sizes(preset)
    budgets, most = preset.axes["budget"], sizes[-1]
    found: list[Claim] = []
    if "steps" in budgets and {"", "supervised", "mean-colour"} <= starts:
        for size in sizes:
            found += _after_fine_tuning(size, size == most)
    others = [start for start in ("downsized", "pixels") if start in starts]
    if "none" in budgets and "mean-colour" in starts and others:
        found.append(
            Claim(
                "mean-colour-is-best:few_shot_5",
                "Of the targets, the mean colour is best (5-shot accuracy)",
                DETAILS,
                partial(_best, others=others, size=most),
            )
        )
    if "none" in budgets and {"mean-colour", "mean-colour-15"} <= starts:
        found.append(
            _against(
                "half-beats-15:few_shot_5",
                "Corrupting 50 % of the patches beats 15 % (5-shot accuracy)",
                _frozen("mean-colour", most),
                _frozen("mean-colour-15", most),
                "mean-colour minus mean-colour-15",
                metric="few_shot_5",
                source=DETAILS,
            )
        )
    return found + _flattening(_lengths(preset, name), budgets, sizes)


def _flattening(lengths: Mapping[int, str], budgets: Sequence[Any], sizes: Sequence[int]) -> list[Claim]:
    if len(lengths) < 3:
        return []
    readings = []
    if "steps" in budgets:
        words = f"fine-tuned with {sizes[0]:,} labels"
        readings.append(("test_accuracy", words, {n: _tuned(start, sizes[0]) for n, start in lengths.items()}))
    if "none" in budgets:
        frozen = {steps: _frozen(start, sizes[-1]) for steps, start in lengths.items()}
        readings.append(("few_shot_5", "5-shot accuracy", frozen))
    return [
        Claim(
            f"gains-flatten:{metric}",
            f"The gains of longer pre-training diminish ({words})",
            DETAILS,
            partial(flattens, lengths=settings, subject=f"first minus last gain a doubling ({words})", metric=metric),
        )
        for metric, words, settings in readings
    ]


def figure(rows: Sequence[SummaryRow], verdicts: Sequence[Verdict], name: str, preset: Preset) -> Any:
    """Returns accuracy by start, fine-tuned and frozen, and against the steps of pre-training, beside the paper's."""
    from vision_repro.figures.appearance import appearance
    from vision_repro.figures.pretraining import Group, Origin, pretraining_figure

    base, own = preset.shared, STAGES[name].pretraining
    words = [str(word) for word in preset.axes.get("pretraining", ()) if "@" not in str(word)]
    sizes = _sizes(preset)
    tuned = [Group("test_accuracy", "steps", size, f"fine-tuned, {size:,} labels") for size in sizes]
    few = Group("few_shot_5", "none", sizes[-1], "5-shot, frozen")
    linear = Group("linear_accuracy", "none", sizes[-1], "linear, frozen")
    alone = "both together" if "steps" not in STAGES[name].scratch else f"{STAGES[name].scratch['steps']:,}"
    notes = (
        f"{appearance(base.model).label} on {base.dataset}, preset {name}: pre-training takes {own['steps']:,} steps "
        f"on {own['train_size']:,} images, fine-tuning {base.steps:,} steps of {base.global_batch} images, training "
        f"without pre-training {alone}; best weights on val; lr {STAGES[name].lr:g}, untuned; supervised pre-training "
        "is on the same images; MAE is not the paper's",
        "the paper: ViT-B/16 on ImageNet, pre-trained on JFT-300M for 1M steps; supervised is 4 points above 79.9 %",
    )
    return pretraining_figure(
        rows,
        verdicts,
        origins=[_origin(word, Origin) for word in words],
        groups=[*tuned, few, linear],
        lengths=_lengths(preset, name),
        curves=[tuned[0], few, linear],
        preset=name,
        notes=notes,
    )


def _origin(word: str, kind: Any) -> Any:
    start = parse(word)
    if start is None:
        return kind("", "no pre-training", "scratch")
    role = {"supervised": "supervised", "mae": "beyond"}.get(start.objective, "")
    return kind(word, start.label, role)


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
