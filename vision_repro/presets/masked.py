"""Pre-training without labels (ViT, section 4.6): what its names say, and the runs of each stage.

A start is `supervised` or `<target>[-<percent corrupted>]`, with `@<steps>` for a shorter pre-training: `mean-colour`,
`mean-colour-15`, `pixels`, `mae`, `mean-colour@100`. `scratch` is none, and empty in the table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from vision_repro.config import FRESH, RunConfig, UserError

SCRATCH = "scratch"
TARGETS = {"mean-colour": "mean colour", "downsized": "4 x 4 colours", "pixels": "all pixels", "mae": "MAE"}
"""What is predicted -> its name in a figure."""
PAPER = {"no pre-training": 0.779, "masked patches": 0.799, "supervised": 0.839}
"""Accuracy of ViT-B/16 on ImageNet: 79.9 %, 2 points above scratch and 4 below supervised pre-training (ViT, 4.6)."""
DRAWS = 10
"""Random draws of the few-shot images: more than usual, as the targets differ by less than draws do."""
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


def origin(word: str) -> tuple[str, str, str]:
    """Returns the setting of a start in the table, its label in a figure, and its role in a list."""
    start = parse(word)
    if start is None:
        return "", "no pre-training", "baseline"
    return word, start.label, {"supervised": "reference", "mae": "beyond"}.get(start.objective, "")


def lengths(words: Iterable[str], usual: Start) -> dict[int, str]:
    """Returns the starts that differ from the usual one in steps only, by their steps, ascending."""
    found = {}
    for word in words:
        start = parse(word)
        if start and usual.steps and (start.objective, start.corrupted) == (usual.objective, usual.corrupted):
            found[start.steps or usual.steps] = word
    return dict(sorted(found.items()))


@dataclass(frozen=True)
class Stages:
    """Fields of the config that pre-training and training from scratch have of their own; `lr` is that of all stages.

    Training from scratch takes as many steps as pre-training and fine-tuning together, unless it has its own number.
    """

    pretraining: Mapping[str, Any]
    scratch: Mapping[str, Any] = field(default_factory=dict)
    lr: float = 1e-3

    @property
    def steps(self) -> int:
        """The steps of pre-training."""
        return int(self.pretraining["steps"])

    def filled(self, config: RunConfig) -> RunConfig:
        """Fills in the learning rate, the probes of frozen weights, and what training from scratch has of its own."""
        scratch = parse(config.pretraining) is None
        own: dict[str, Any] = {"pretraining": ""} if scratch else {}
        if config.budget == "none":
            own |= {"shots": config.shots or "5", "probes": config.probes or "linear", "lr": None}
            own["draws"] = DRAWS if config.draws == RunConfig.draws else config.draws
            return replace(config, **own, weights=FRESH if scratch else config.weights)
        if scratch:
            own |= {"steps": config.steps + self.steps, **self.scratch}
        return replace(config, **{"lr": self.lr, **own, **({} if config.lr is None else {"lr": config.lr})})

    def pretraining_of(self, config: RunConfig) -> RunConfig | None:
        """Returns the pre-training that a run starts from: on all images of the preset, its last weights."""
        start = parse(config.pretraining)
        if start is None:
            return None
        own: dict[str, Any] = {"lr": self.lr, **self.pretraining, "objective": start.objective}
        steps = own["steps"] = start.steps or self.steps
        own["evaluations"] = max(count for count in range(1, int(own["evaluations"]) + 1) if steps % count == 0)
        own["corrupted"] = RunConfig.corrupted if start.objective == "supervised" else start.corrupted
        own |= {"budget": "steps", "select": "last", "train_on_val": False, "polyak": 0.0, "views": "crop"}
        own |= {"pretraining": "", "weights": "", "shots": "", "probes": "", "draws": RunConfig.draws}
        return replace(config, **own)


PAPER_STAGES = Stages(
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
)  # fmt: skip
"""Fields of the paper's own scale."""


def left_out(config: RunConfig, few: int, many: int) -> bool:
    """Returns whether a point of a grid is not run.

    Frozen features do not depend on the labels of fine-tuning, and shorter pre-training is fine-tuned with few labels.
    """
    if config.budget == "none":
        return config.train_size == few
    return "@" in config.pretraining and config.train_size == many
