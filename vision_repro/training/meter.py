"""Measures what a run takes while it runs: seconds, images, memory and energy, over all resumptions.

These numbers differ each time a run is repeated, so they are written to `cost.json` and never to `result.json`.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback

from vision_repro.accounting import energy
from vision_repro.accounting.flops import training_flops
from vision_repro.accounting.ledger import derived_costs
from vision_repro.config import RunConfig
from vision_repro.tasks.forward_flops import Forward
from vision_repro.training.device import processor

if TYPE_CHECKING:
    from vision_repro.training.context import RunContext

PHASES = ("setup", "training", "evaluation")
SAMPLE_SECONDS = 20.0
"""Maximum time between two readings of the energy [s]: much shorter than the time until a counter overflows."""


def process_memory() -> int:
    """Returns the peak resident memory of this process so far [bytes]."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class Meter(Callback):
    """Measures a run in phases: `setup` until training starts, `training`, and `evaluation` on val and after training.

    Its state is saved in checkpoints, so a resumed run continues the counts. Work after the last checkpoint of a
    stopped run is lost and is not counted. Writing checkpoints is part of training.
    """

    def __init__(
        self, accelerator: str, counter: energy.Counter | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Takes the kind of device, its energy counter, and a monotonic clock [s]."""
        self.accelerator, self.counter, self.clock = accelerator, counter, clock
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.images = 0
        self.resumed = 0
        self.phase = "setup"
        self._since = self._sampled = clock()
        self._energy_before: float | None = 0.0
        self._peak_before = 0
        self._device: torch.device | None = None

    def enter(self, phase: str) -> None:
        """Waits until the device has finished, ends the current phase and starts another."""
        if self.accelerator == "gpu":
            torch.cuda.synchronize(self._device)
        now = self.clock()
        self.seconds[self.phase] += now - self._since
        self.phase, self._since = phase, now

    def state_dict(self) -> dict[str, Any]:
        """Returns all counts so far, in plain types."""
        now = self.clock()
        seconds = {**self.seconds, self.phase: self.seconds[self.phase] + now - self._since}
        return {
            "seconds": seconds,
            "images": self.images,
            "resumed": self.resumed,
            "energy": self._energy(),
            "peak_memory": self._peak(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Adds the counts from before the run was stopped."""
        for phase in PHASES:
            self.seconds[phase] += state_dict["seconds"][phase]
        self.images += state_dict["images"]
        self.resumed = state_dict["resumed"] + 1
        self._energy_before = state_dict["energy"]
        self._peak_before = state_dict["peak_memory"]

    def measured(self) -> dict[str, Any]:
        """Returns the measurements so far; None if a quantity cannot be measured.

        Seconds are those of the wall clock, memory [bytes] is for one device or process, energy [J] for all devices.
        """
        state = self.state_dict()
        training = state["seconds"]["training"]
        return {
            **{f"{phase}_seconds": round(state["seconds"][phase], 3) for phase in PHASES},
            "images": self.images,
            "images_per_second": round(self.images / training, 3) if self.images and training > 0 else None,
            "peak_memory_bytes": state["peak_memory"],
            "peak_memory_of": "CUDA tensors" if self.accelerator == "gpu" else "resident process",
            "energy_joules": None if state["energy"] is None else round(state["energy"], 3),
            "energy_from": self.counter.name if self.counter else None,
            "resumed": self.resumed,
        }

    def _energy(self) -> float | None:
        """Returns the energy so far, or None if it is unknown for a part of the run."""
        used = self.counter.joules() if self.counter else None
        return None if used is None or self._energy_before is None else self._energy_before + used

    def _peak(self) -> int:
        if self.accelerator != "gpu":
            return max(self._peak_before, process_memory())
        return max(self._peak_before, torch.cuda.max_memory_allocated(self._device))

    def _sample(self) -> None:
        """Reads the energy from time to time, so that no overflow of a counter is missed."""
        if self.counter and self.clock() - self._sampled >= SAMPLE_SECONDS:
            self._sampled = self.clock()
            self.counter.joules()

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Resets the peak of GPU memory that earlier runs of this process have left."""
        if self.accelerator == "gpu" and self._device is None:
            self._device = trainer.strategy.root_device
            torch.cuda.reset_peak_memory_stats(self._device)

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Starts the phase `training`."""
        self.enter("training")

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Counts the images of a step over all ranks."""
        self.images += len(batch.images) * trainer.world_size
        self._sample()

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Starts the phase `evaluation`."""
        self.enter("evaluation")

    def on_validation_batch_end(self, trainer: Trainer, *arguments: Any) -> None:
        """Reads the energy from time to time."""
        self._sample()

    def on_test_batch_end(self, trainer: Trainer, *arguments: Any) -> None:
        """Reads the energy from time to time."""
        self._sample()

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Returns to the phase `training`."""
        self.enter("training")

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Starts the phase `evaluation`: the weights are measured next."""
        self.enter("evaluation")


def meter_of(context: RunContext, *, reads_energy: bool) -> Meter:
    """Returns the meter of a run. One rank `reads_energy`, and only on one node: the counters cover one machine."""
    launch = context.launch
    counter = energy.counter(context.accelerator, launch.devices) if reads_energy and launch.num_nodes == 1 else None
    return Meter(context.accelerator, counter)


def cost(meter: Meter, config: RunConfig, context: RunContext, forward: Forward, images: int) -> dict[str, Any]:
    """Returns the content of `cost.json`: the cost of training on `images` images, and of evaluation.

    `utilisation` and `dollars` use the current table of devices; the ledger computes them again from its own.
    """
    measured, launch = meter.measured(), context.launch
    count = launch.devices * launch.num_nodes
    seconds = sum(measured[f"{phase}_seconds"] for phase in PHASES)
    found = {
        "training_flops": training_flops(forward.counted, images),
        "forward_flops": forward.counted,
        "counted_over_measured": round(forward.counted / forward.measured, 6) if forward.measured else None,
        "device": torch.cuda.get_device_name() if context.accelerator == "gpu" else processor(),
        "devices": count,
        "precision": config.precision,
        "device_hours": round(seconds * count / 3600, 6),
        **measured,
    }
    return {**found, **derived_costs(found)}
