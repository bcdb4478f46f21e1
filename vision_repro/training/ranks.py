"""Which process of a group this one is, as torchrun, srun or the pool told it by the environment."""

from __future__ import annotations

import os


def this_rank() -> int:
    """Returns the number of this process among the run's ranks, as the engine, torchrun or srun told it."""
    names = ("RANK", "SLURM_PROCID", "LOCAL_RANK")
    return next((int(os.environ[name]) for name in names if name in os.environ), 0)


def external_ranks() -> bool:
    """Returns whether torchrun or srun has started this process as one rank of several."""
    return of_srun() or (int(os.environ.get("WORLD_SIZE", "1")) > 1 and "LOCAL_RANK" in os.environ)


def of_srun() -> bool:
    """Returns whether srun has started this process as one task of several.

    `SLURM_NTASKS` does not tell: a batch script has it too, and all it starts.
    """
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1 and "SLURM_PROCID" in os.environ
