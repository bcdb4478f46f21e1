"""Describes where and how one run is carried out."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vision_repro.config import Launch
from vision_repro.store.measurements import Measurement, wanted
from vision_repro.store.runs import RunFolder

Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class RunContext:
    """Folders, devices and measurements of one run, the settings that name it, and the function that reports progress.

    If `measurements` is None, they are those of the folder's config.
    """

    folder: RunFolder
    launch: Launch
    cache: Path
    settings: tuple[str, ...]
    accelerator: str
    report: Report
    experiment: str = ""
    is_upstream: bool = False
    measurements: tuple[Measurement, ...] | None = None

    @property
    def wanted(self) -> tuple[Measurement, ...]:
        """The measurements of the run's weights."""
        return wanted(self.folder.config) if self.measurements is None else self.measurements

    @property
    def tracked(self) -> bool:
        """Whether the run is logged to W&B. A trial of a sweep is one W&B run, so its pre-training is not logged."""
        return self.launch.wandb != "off" and not (self.is_upstream and "WANDB_SWEEP_ID" in os.environ)
