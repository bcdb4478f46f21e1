"""Carries out a trial of a W&B sweep inside a SLURM job (`sweeps/agent.sbatch`), on all ranks and across restarts.

`wandb agent` gives a trial to a job only once. A job that was stopped and starts again must continue its own trial as
the same W&B run. So the agent's command and variables are kept in a file of the job until the trial has ended.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from vision_repro.config import UserError
from vision_repro.store.atomic import write_atomic
from vision_repro.training import signals

VARIABLE = "VISION_REPRO_TRIAL"
"""Environment variable with the path of the file; the job script sets it, and the trial itself does not inherit it."""
OF_A_TRIAL = tuple(f"WANDB_{name}" for name in ("RUN_ID", "SWEEP_ID", "SWEEP_PARAM_PATH", "ENTITY", "PROJECT", "DIR"))


def is_asked_for() -> bool:
    """Returns whether the agent of a job has started this process, which must then start the ranks."""
    return VARIABLE in os.environ


def ranks(environment: Mapping[str, str]) -> list[str]:
    """Returns the options for the nodes and tasks of the job; none for a single task."""
    tasks, nodes = int(environment.get("SLURM_NTASKS", "1")), int(environment.get("SLURM_NNODES", "1"))
    return [f"--num_nodes={nodes}", f"--devices={tasks // nodes}"] if tasks > 1 else []


def start(arguments: Sequence[str]) -> int:
    """Carries out the command `arguments` on all ranks of the job; returns its exit code.

    The agent's variables are kept until the trial has ended, unless a signal has stopped it.
    """
    file = Path(os.environ[VARIABLE])
    kept = {name: os.environ[name] for name in OF_A_TRIAL if name in os.environ}
    write_atomic(file, json.dumps({"command": list(arguments), "environment": kept}, indent=1) + "\n")
    return _carry_out(file, arguments, {})


def again() -> int:
    """Continues the trial of this job's file as the same W&B run; returns its exit code.

    Raises:
        UserError: if the file does not describe a trial.
    """
    file = Path(os.environ.get(VARIABLE, ""))
    try:
        found = json.loads(file.read_text())
        arguments, kept = list(found["command"]), dict(found["environment"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f'{VARIABLE}="{file}" is not the file of a trial: expected the file that this job has written.'
        ) from None
    return _carry_out(file, arguments, {**kept, "WANDB_RESUME": "allow"})


def _carry_out(file: Path, arguments: Sequence[str], more: Mapping[str, str]) -> int:
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE} | dict(more)
    command = ["srun", "--kill-on-bad-exit=0", *arguments, *ranks(environment)]
    # SLURM and the agent send signals to srun's tasks and to this process, which must only outlive them.
    with signals.listening():
        code = subprocess.call(command, env=environment)
    if code not in signals.CONTINUED:
        file.unlink(missing_ok=True)
    return code


def this_command() -> list[str]:
    """Returns the command line of this process."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    script = ["-m", spec.name.removesuffix(".__main__")] if spec else [sys.argv[0]]
    return [sys.executable, *script, *sys.argv[1:]]


if __name__ == "__main__":
    try:
        sys.exit(again())
    except UserError as error:
        print(f"trial: {error}", file=sys.stderr)
        sys.exit(2)
