"""Forward FLOPs of a training step per image: of the architecture, or of a whole self-supervised objective.

The encoder of a masked autoencoder gets only the visible patches; decoders and predictors are counted. Each count is
checked against torch's counter, which shares no code with `accounting`.

Deviation: auxiliary classifiers, which are used only in training, are not counted; the convention (3 x forward) is that
of ViT's Table 6, whose models have none.
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
    """Forward FLOPs of a training step per image: `counted` by `accounting`, and `measured` by torch's counter."""

    counted: int
    measured: int


def forward_flops(config: RunConfig, classes: int = 1000) -> int:
    """Returns the FLOPs of one image in the forward pass of a training step of `config`, counted by `accounting`."""
    if config.objective == "supervised":
        return FLOPS_PER_MAC * counted(config.model, config.image_size, classes).macs()
    return _objective_flops(config.objective, config.model, config.image_size, config.corrupted)


@cache
def _objective_flops(objective: str, model: str, image_size: int, corrupted: float) -> int:
    # Imported here for start-up time: torch takes long to import.
    from vision_repro.accounting.counter import Counter
    from vision_repro.accounting.operations import Operation

    found: list[Operation] = []
    run = _pass(RunConfig(objective=objective, model=model, image_size=image_size, corrupted=corrupted), 2)
    with Counter(found.append, quick=True):
        run()
    return FLOPS_PER_MAC * sum(item.macs for item in found)


def measured_flops(config: RunConfig, classes: int = 1000) -> int:
    """Returns the same FLOPs measured by torch's `FlopCounterMode` in one forward pass on the meta device."""
    # Imported here for start-up time: torch takes long to import.
    from torch.utils.flop_counter import FlopCounterMode

    run = _pass(config, classes)
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def _pass(config: RunConfig, classes: int) -> Callable[[], Any]:
    """Returns a function that does a forward pass of one image on the meta device, where tensors have no values.

    It uses explicit attention, because both counters may miss fused kernels, depending on torch's version.
    """
    # Imported here for start-up time: torch takes long to import.
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
    """Returns both counts, from the file in `folder` if an earlier run of the same model has written them there.

    If two processes write at the same time, an entry may be lost; it is then counted again, with the same result.
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
