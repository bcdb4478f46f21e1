"""Forward FLOPs of what a run learns: of the architecture, or of all that a self-supervised objective computes.

A masked autoencoder's encoder sees only the patches that are left, and its decoder is counted; predictors are too. Each
count is checked against torch's own counter, which shares no code with the accountant.

Deviation: auxiliary classifiers, which only take part in training, are not counted: ViT's Table 6, whose convention
(3 x forward) this is, has none.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision_repro.accounting.architectures import counted
from vision_repro.config import RunConfig
from vision_repro.store.atomic import write_atomic

if TYPE_CHECKING:
    from collections.abc import Callable

FLOPS_PER_MAC = 2
BOOK_NAME = "flops.json"


@dataclass(frozen=True)
class Forward:
    """FLOPs of one image in the forward pass of a training step: by the accountant, and by torch's counter."""

    counted: int
    measured: int


def forward_flops(config: RunConfig, classes: int = 1000) -> int:
    """Returns the FLOPs of one image in the forward pass of a training step of `config`, by the accountant."""
    if config.objective == "supervised":
        return FLOPS_PER_MAC * counted(config.model, config.image_size, classes).macs()
    return _objective_flops(config.objective, config.model, config.image_size, config.corrupted)


@cache
def _objective_flops(objective: str, model: str, image_size: int, corrupted: float) -> int:
    from vision_repro.accounting.counter import Counter
    from vision_repro.accounting.operations import Operation

    found: list[Operation] = []
    run = _pass(RunConfig(objective=objective, model=model, image_size=image_size, corrupted=corrupted), 2)
    with Counter(found.append, quick=True):
        run()
    return FLOPS_PER_MAC * sum(item.macs for item in found)


def measured_flops(config: RunConfig, classes: int = 1000) -> int:
    """Returns the same FLOPs as torch's `FlopCounterMode` finds them in one forward pass, without storage."""
    from torch.utils.flop_counter import FlopCounterMode

    run = _pass(config, classes)
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def _pass(config: RunConfig, classes: int) -> Callable[[], Any]:
    """Returns what does a forward pass of one image on the meta device, where shapes exist and numbers do not.

    With explicit attention, since either counter may miss fused kernels, which ones depending on torch's version.
    """
    import torch

    from vision_repro import models

    supervised = config.objective == "supervised"
    with torch.device("meta"):
        model: Any = models.build(config.model, image_size=config.image_size, classes=classes)
        if not supervised:
            from vision_repro.tasks.build import build as build_task

            model = build_task(config, model, {"lr": 0.0, "weight_decay": 0.0, "steps": 1})
        images = torch.zeros(1, 3, config.image_size, config.image_size)
        first = torch.zeros(1, dtype=torch.int64)
    models.use_explicit_attention(model.eval(), True)

    def forward() -> Any:
        with torch.no_grad(), torch.device("meta"):
            return model(images) if supervised else model.losses(images, model.draw(0, 0, first))

    return forward


def checked(config: RunConfig, classes: int, folder: Path) -> Forward:
    """Returns both counts, from the book in `folder` where a run of the same model has left them.

    Processes that write at the same time may lose an entry, which is then counted again, to the same number.
    """
    file = folder / BOOK_NAME
    share = f" | {config.corrupted:g}" if config.objective != "supervised" else ""
    key = f"{config.model} | {config.image_size} px | {classes} classes | {config.objective}{share}"
    found = _entry(_book(file), key)
    if found is None:
        found = Forward(forward_flops(config, classes), measured_flops(config, classes))
        book = {**_book(file), key: {"counted": found.counted, "measured": found.measured}}
        write_atomic(file, json.dumps(book, indent=1, sort_keys=True) + "\n")
    return found


def _book(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _entry(book: dict[str, Any], key: str) -> Forward | None:
    try:
        return Forward(int(book[key]["counted"]), int(book[key]["measured"]))
    except (KeyError, TypeError, ValueError):
        return None
