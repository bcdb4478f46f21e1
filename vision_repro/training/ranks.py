"""Finds the rank of this process from the environment variables of torchrun, srun or the pool."""

from __future__ import annotations

import os


def this_rank() -> int:
    """Returns the rank of this process in its run, 0 if it is the only one."""
    names = ("RANK", "SLURM_PROCID", "LOCAL_RANK")
    return next((int(os.environ[name]) for name in names if name in os.environ), 0)


def external_ranks() -> bool:
    """Returns whether torchrun or srun has started this process as one of several ranks."""
    return of_srun() or (int(os.environ.get("WORLD_SIZE", "1")) > 1 and "LOCAL_RANK" in os.environ)


def of_srun() -> bool:
    """Returns whether srun has started this process as one of several tasks.

    `SLURM_NTASKS` is no evidence: a batch script and all its child processes have it too.
    """
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1 and "SLURM_PROCID" in os.environ
