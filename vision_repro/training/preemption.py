"""Stopping a training without losing a step: all ranks agree between two batches, save, and end with code 99.

A signal only sets a flag (`signals`). Lightning's own ways lose work: its SIGTERM ends the process with code 0, its
SIGUSR1 saves inside the handler, where two ranks can wait for each other for ever, and `should_stop` closes the epoch.
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
"""Of the first agreements between ranks, how many are left out of the timing of a step, and how many are timed."""
INTERVAL = 1.0
"""Longest time between two agreements of several ranks, once steps are timed [s]; a cluster leaves 20 s and more."""
MOST_STEPS = 100
KEY = "train_loss_sums"


def environment() -> ClusterEnvironment:
    """Returns who has started the ranks: torchrun, srun, or this suite's own pool; Lightning would guess.

    A run of the pool inside a SLURM job is not SLURM's, and no job is put back into the queue by Lightning. It warns
    wherever srun is installed and not used; a laptop or a login node is no mistake.
    """
    warnings.filterwarnings("ignore", message="The `srun` command is available")
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    if of_srun():
        return SLURMEnvironment(auto_requeue=False)
    return LightningEnvironment()


class Preemption(Callback):
    """Looks at the flag before each step, and then saves and ends the process.

    With several ranks that takes an agreement, since each hears of a signal at another time: at every step at first,
    then about once a second.
    """

    def __init__(self, save: Callable[[Trainer], None], closing: Callable[[], None]) -> None:
        """Takes what saves the training (all ranks call it) and what is done last on each rank."""
        self.save, self.closing = save, closing
        self.every = 1
        self._agreements, self._since = 0, 0.0

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Takes the signals back from Lightning, which has installed its own handlers by now."""
        signals.install()

    on_validation_start = on_test_start = on_train_start

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Ends the process between two optimizer steps, if it was asked to stop.

        Raises:
            Stopped: after all is saved.
        """
        if trainer.world_size == 1 and not signals.asked():
            return
        # Gradients that were added up over half of the micro-batches could not be saved.
        if batch_idx % (trainer.accumulate_grad_batches * self.every):
            return
        if not self._agreed(trainer):
            return
        signals.ignore()
        self.save(trainer)
        # The first rank still renames its file; an engine may end all ranks when one has ended.
        trainer.strategy.barrier("saved")
        self.closing()
        raise signals.Stopped

    def _agreed(self, trainer: Trainer) -> bool:
        """Returns whether any rank was asked to stop, the same on all ranks."""
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
        """Adds the training losses since the last validation, a sum for each rank, to the checkpoint."""
        own = pl_module.loss_sum.to(pl_module.device)
        sums = [torch.zeros_like(own) for _ in range(trainer.world_size)]
        if trainer.world_size > 1:
            torch.distributed.all_gather(sums, own)
        else:
            sums = [own]
        checkpoint[KEY] = [float(item) for item in sums]

    def on_load_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Takes up this rank's sum, or the mean over ranks of another number of ranks."""
        sums = checkpoint.get(KEY, [0.0])
        same = len(sums) == trainer.world_size
        own = sums[trainer.global_rank] if same else sum(sums) / trainer.world_size
        pl_module.loss_sum = torch.tensor(own)
