"""Stops a training without losing a step: between two batches all ranks agree, save, and end with code 99.

A signal only sets a flag (`signals`). Lightning's own handlers lose work: its SIGTERM handler ends the process with
code 0; its SIGUSR1 handler saves immediately, where two ranks can wait for each other for ever; `should_stop` ends the
epoch.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from lightning import Trainer
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.callbacks import Callback

from vision_repro.training import signals
from vision_repro.training.ranks import of_srun

WARM_UP, TIMED = 4, 8
"""Number of agreements between ranks before the timing of a step, and number of timed ones."""
INTERVAL = 1.0
"""Maximum time between two agreements of several ranks after the timing [s]; a cluster allows at least 20 s to stop."""
MOST_STEPS = 100
KEY = "train_loss_sums"


def environment() -> ClusterEnvironment:
    """Returns what has started the ranks (torchrun, srun, or this suite's pool), so that Lightning does not guess.

    Inside a SLURM job, runs of the pool do not belong to SLURM, and Lightning must not requeue the job. Lightning's
    warning about an unused srun is ignored, because not using it on a laptop or a login node is correct.
    """
    warnings.filterwarnings("ignore", message="The `srun` command is available")
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    if of_srun():
        return SLURMEnvironment(auto_requeue=False)
    return LightningEnvironment()


class Preemption(Callback):
    """Checks the flag before each step; if it is set, saves and ends the process.

    Several ranks must agree, because each receives a signal at another time. They do so at every step at first, then
    about once a second.
    """

    def __init__(self, save: Callable[[Trainer], None], closing: Callable[[], None]) -> None:
        """Takes a function that saves the training (all ranks call it) and one that each rank calls last."""
        self.save, self.closing = save, closing
        self.every = 1
        self._agreements, self._since = 0, 0.0

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Installs this suite's signal handlers again, because Lightning has replaced them."""
        signals.install()

    on_validation_start = on_test_start = on_train_start

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Ends the process between two optimizer steps, if it was asked to stop.

        Raises:
            Stopped: after everything is saved.
        """
        if trainer.world_size == 1 and not signals.asked():
            return
        # A checkpoint cannot hold gradients that are accumulated over some of the micro-batches.
        if batch_idx % (trainer.accumulate_grad_batches * self.every):
            return
        if not self._agreed(trainer):
            return
        signals.ignore()
        self.save(trainer)
        # The first rank may still be renaming its file, and an engine may end all ranks when one has ended.
        trainer.strategy.barrier("saved")
        self.closing()
        raise signals.Stopped

    def _agreed(self, trainer: Trainer) -> bool:
        """Returns whether any rank was asked to stop; all ranks get the same answer."""
        if trainer.world_size == 1:
            return signals.asked()
        self._agreements += 1
        if self._agreements == WARM_UP:
            self._since = time.monotonic()
        elif self._agreements == WARM_UP + TIMED:
            step = (time.monotonic() - self._since) / TIMED
            self.every = int(trainer.strategy.broadcast(min(MOST_STEPS, max(1, int(INTERVAL / max(step, 1e-9))))))
        return bool(trainer.strategy.reduce_boolean_decision(signals.asked(), all=False))

    def on_save_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Adds to the checkpoint the sum of training losses since the last validation, for each rank."""
        own = pl_module.loss_sum.to(pl_module.device)
        sums = [torch.zeros_like(own) for _ in range(trainer.world_size)]
        if trainer.world_size > 1:
            torch.distributed.all_gather(sums, own)
        else:
            sums = [own]
        checkpoint[KEY] = [float(item) for item in sums]

    def on_load_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Restores this rank's sum, or the mean over ranks if the number of ranks has changed."""
        sums = checkpoint.get(KEY, [0.0])
        same = len(sums) == trainer.world_size
        own = sums[trainer.global_rank] if same else sum(sums) / trainer.world_size
        pl_module.loss_sum = torch.tensor(own)
