"""A trial of a W&B sweep inside a SLURM job (`sweeps/agent.sbatch`): over all ranks of the job, and across restarts.

`wandb agent` gives a trial to a job once. A job that was stopped and starts again goes on with its own trial and its
own W&B run, so what the agent said is kept in a file that is named by the job, until the trial has ended.
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
"""Names the file; set by the job script, and taken away from what runs inside the trial."""
OF_A_TRIAL = tuple(f"WANDB_{name}" for name in ("RUN_ID", "SWEEP_ID", "SWEEP_PARAM_PATH", "ENTITY", "PROJECT", "DIR"))


def is_asked_for() -> bool:
    """Returns whether this process was started by the agent of a job, and is to start its ranks."""
    return VARIABLE in os.environ


def ranks(environment: Mapping[str, str]) -> list[str]:
    """Returns the options that tell a trial of the nodes and tasks of its job; none for a single task."""
    tasks, nodes = int(environment.get("SLURM_NTASKS", "1")), int(environment.get("SLURM_NNODES", "1"))
    return [f"--num_nodes={nodes}", f"--devices={tasks // nodes}"] if tasks > 1 else []


def start(arguments: Sequence[str]) -> int:
    """Carries out the command `arguments` on all ranks of the job; returns its exit code.

    The agent's variables are kept until the trial has ended otherwise than by a signal.
    """
    file = Path(os.environ[VARIABLE])
    kept = {name: os.environ[name] for name in OF_A_TRIAL if name in os.environ}
    write_atomic(file, json.dumps({"command": list(arguments), "environment": kept}, indent=1) + "\n")
    return _carry_out(file, arguments, {})


def again() -> int:
    """Carries out the trial of this job's file once more, as the same W&B run; returns its exit code.

    Raises:
        UserError: if the file is no trial's.
    """
    file = Path(os.environ.get(VARIABLE, ""))
    try:
        found = json.loads(file.read_text())
        arguments, kept = list(found["command"]), dict(found["environment"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f'{VARIABLE}="{file}" is not the file of a trial: expected one that this job has left.'
        ) from None
    return _carry_out(file, arguments, {**kept, "WANDB_RESUME": "allow"})


def _carry_out(file: Path, arguments: Sequence[str], more: Mapping[str, str]) -> int:
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE} | dict(more)
    command = ["srun", "--kill-on-bad-exit=0", *arguments, *ranks(environment)]
    # SLURM, and the agent's group, send signals to srun's tasks and to this process; it has only to outlive them.
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
