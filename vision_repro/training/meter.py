"""What a run is measured to take while it runs: seconds, images, memory, energy; over all its resumptions.

These numbers differ from run to run, so they stand in `cost.json` and never in `result.json`.
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
from vision_repro.tasks.forward_flops import Forward
from vision_repro.training.device import processor

if TYPE_CHECKING:
    from vision_repro.training.recorder import RunContext

PHASES = ("setup", "training", "evaluation")
SAMPLE_SECONDS = 20.0
"""Longest time between two readings of the energy [s], much less than a counter takes to start again at 0."""


def process_memory() -> int:
    """Returns the largest resident memory of this process so far [bytes]."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class Meter(Callback):
    """Counts what a run takes: `setup` until training starts, `training`, and `evaluation` on val and after training.

    Its state goes into checkpoints, so a resumed run goes on counting; what was done after the last checkpoint of a
    stopped run is lost, and is not counted. A checkpoint's own writing is part of training.
    """

    def __init__(
        self, accelerator: str, counter: energy.Counter | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Takes the kind of device, what tells its energy, and a clock [s] that never goes back."""
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
        """Ends the phase that is, and begins another; waits for what the device still has to do in the old one."""
        if self.accelerator == "gpu":
            torch.cuda.synchronize(self._device)
        now = self.clock()
        self.seconds[self.phase] += now - self._since
        self.phase, self._since = phase, now

    def state_dict(self) -> dict[str, Any]:
        """Returns all that was counted so far, in plain types."""
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
        """Adds what was counted before the run was stopped."""
        for phase in PHASES:
            self.seconds[phase] += state_dict["seconds"][phase]
        self.images += state_dict["images"]
        self.resumed = state_dict["resumed"] + 1
        self._energy_before = state_dict["energy"]
        self._peak_before = state_dict["peak_memory"]

    def measured(self) -> dict[str, Any]:
        """Returns what was measured until now; None where nothing tells it.

        Seconds are of the wall clock, memory [bytes] is that of one device or process, energy [J] of all devices.
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
        """Returns the energy so far, or None if it is not known for a part of the run."""
        used = self.counter.joules() if self.counter else None
        return None if used is None or self._energy_before is None else self._energy_before + used

    def _peak(self) -> int:
        if self.accelerator != "gpu":
            return max(self._peak_before, process_memory())
        return max(self._peak_before, torch.cuda.max_memory_allocated(self._device))

    def _sample(self) -> None:
        """Reads the energy now and then, so that no counter starts again at 0 unseen."""
        if self.counter and self.clock() - self._sampled >= SAMPLE_SECONDS:
            self._sampled = self.clock()
            self.counter.joules()

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Forgets the memory that earlier runs of this process took on the GPU."""
        if self.accelerator == "gpu" and self._device is None:
            self._device = trainer.strategy.root_device
            torch.cuda.reset_peak_memory_stats(self._device)

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Begins training."""
        self.enter("training")

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Counts the images of a step over all ranks."""
        self.images += len(batch.images) * trainer.world_size
        self._sample()

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Begins a validation."""
        self.enter("evaluation")

    def on_validation_batch_end(self, trainer: Trainer, *arguments: Any) -> None:
        """Reads the energy now and then."""
        self._sample()

    def on_test_batch_end(self, trainer: Trainer, *arguments: Any) -> None:
        """Reads the energy now and then."""
        self._sample()

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Goes on with training."""
        self.enter("training")

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Ends training: what follows looks at the weights."""
        self.enter("evaluation")


def meter_of(context: RunContext, *, tells: bool) -> Meter:
    """Returns the meter of a run; only the rank that `tells` reads the energy, which is of one machine."""
    launch = context.launch
    counter = energy.counter(context.accelerator, launch.devices) if tells and launch.num_nodes == 1 else None
    return Meter(context.accelerator, counter)


def cost(meter: Meter, context: RunContext, forward: Forward, images: int) -> dict[str, Any]:
    """Returns the content of `cost.json`: what the run of `context` took to train on `images` images, and to evaluate.

    `utilisation` and `dollars` are by the table of devices as it is now; the ledger computes them again.
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
        "precision": context.precision,
        "device_hours": round(seconds * count / 3600, 6),
        **measured,
    }
    return {**found, **derived_costs(found)}
