"""The engines: where and how runs are carried out, never what they measure."""

from __future__ import annotations

from dataclasses import dataclass

from vision_repro.config import UserError, check_choices, option


@dataclass(frozen=True)
class Launch:
    """Where and how the runs of an experiment are carried out; none of it is part of a run's id."""

    out: str = option("outputs", "folder for runs, tables and figures")
    data_root: str | None = option(None, "folder with data sets you already have (default: $VISION_REPRO_DATA)")
    accelerator: str = option("auto", "kind of device", ("auto", "cpu", "gpu"))
    devices: int = option(1, "devices a run (processes, on a CPU)")
    num_nodes: int = option(1, "machines a run; started by srun or torchrun")
    jobs: int = option(0, "runs at the same time; 0 is as many as the machine has room for")
    accumulate: int = option(1, "micro-batches an optimizer step")
    workers: int = option(2, "processes a device that decode images, where they are not held in memory")
    decoded_cache: bool = option(False, "keep decoded images on disk, where they are not held in memory")
    wandb: str = option("auto", "log to W&B: online with a key, else offline; WANDB_MODE goes first", ("auto", "off"))
    wandb_report: bool = option(False, "log figure, table and verdicts to W&B too, as one run of the group")
    checkpoint_seconds: float = option(30.0, "shortest time between two checkpoints of a run")
    compile: str = option("auto", "torch.compile: auto is on for long runs on a GPU", ("auto", "on", "off"))
    engine: str = option("local", "who starts the runs: this process, or SLURM as a job array", ("local", "slurm"))
    partition: str = option("", "SLURM: partition of the jobs; empty is the cluster's default")
    tasks: int = option(0, "SLURM: array tasks that share the runs, each --jobs at a time; 0 is enough for all")
    time_limit: str = option("", "SLURM: longest time of a job, such as 4:00:00; a stopped job goes on in the next")
    sbatch: str = option("", 'SLURM: further options of sbatch, such as "--account=vision --gres=gpu:a100:1"')
    only: str = option("", "ids of the runs to do, separated by spaces, and no summary after them; empty is all")
    dry_run: bool = option(False, "print the runs and their estimated cost, and stop")

    def __post_init__(self) -> None:
        """Refuses impossible values.

        Raises:
            UserError: naming the option, its value and what was expected.
        """
        check_choices(self)
        for name in ("devices", "num_nodes", "accumulate", "jobs", "workers", "tasks", "checkpoint_seconds"):
            low = 1 if name in ("devices", "num_nodes", "accumulate") else 0
            if getattr(self, name) < low:
                raise UserError(f"--{name}={getattr(self, name)} is too small: expected at least {low}.")
        for name in ("partition", "tasks", "time_limit", "sbatch"):
            if getattr(self, name) and self.engine != "slurm":
                raise UserError(f"--{name}={getattr(self, name)} is for --engine=slurm: give both or leave it out.")
