"""The batch scripts that SLURM is given: what a job asks for, and how it ends when it is stopped."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vision_repro.config import Launch
from vision_repro.training.signals import CONTINUED

NOTICE = 60
"""How long before its time limit a job is told of it [s]; SLURM tells up to a minute earlier."""

# srun goes to the background, as a shell hears no signal while it waits for a command. The shell only notes that one
# came: SLURM has sent it to the ranks too. They save and end one after the other, which must not kill those that still
# save; and `wait`, cut short by a signal, is asked again for the true exit code. SLURM takes back even a job that a
# person has cancelled, if it asks: what is ended already, and not by its time limit, must not ask.
END = f"""
# srun does not take over by itself what sbatch was asked for, since SLURM 22.05
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
again=yes
trap 'again=yes' TERM USR1
srun --kill-on-bad-exit=0 {{command}} &
step=$!
while [ -n "$again" ]; do
    again=
    wait "$step"
    code=$?
done
case "$code" in {" | ".join(map(str, CONTINUED))})
    job="${{{{SLURM_ARRAY_JOB_ID}}}}_${{{{SLURM_ARRAY_TASK_ID}}}}"
    state=$(squeue --noheader --jobs="$job" --format=%T:%r)
    if [ "${{{{state%%:*}}}}" != COMPLETING ] || [ "${{{{state#*:}}}}" = TimeLimit ]; then
        scontrol requeue "$job"
    fi ;;
esac
exit "$code"
"""


@dataclass(frozen=True)
class Request:
    """What a job array asks for beyond `Launch`: its name, elements, the GPUs of a node, and what comes before it."""

    name: str
    elements: int
    gpus: bool
    after: tuple[str, ...] = ()


def options(launch: Launch, request: Request, log: Path) -> list[str]:
    """Returns the options of sbatch, one a line of the script."""
    across = launch.num_nodes > 1
    at_once = 1 if across else max(1, launch.jobs)
    ranks = launch.devices if across else 1
    processes = launch.devices * at_once
    cores = processes * (1 + launch.workers if request.gpus else 1)
    found = [
        f"--job-name={request.name}",
        f"--array=0-{request.elements - 1}",
        f"--nodes={launch.num_nodes}",
        f"--ntasks-per-node={ranks}",
        f"--cpus-per-task={max(1, cores // ranks)}",
        f"--output={log / '%A_%a.log'}",
        "--open-mode=append",
        "--requeue",
        f"--signal=USR1@{NOTICE}",
    ]
    found += [f"--partition={launch.partition}"] if launch.partition else []
    found += [f"--time={launch.time_limit}"] if launch.time_limit else []
    found += [f"--gres=gpu:{processes}"] if request.gpus else []
    found += [f"--dependency=afterany:{':'.join(request.after)}"] if request.after else []
    # Last, as the last of two equal options counts.
    return found + shlex.split(launch.sbatch)


def script(options: Sequence[str], command: Sequence[str], folder: Path, runs: Path) -> str:
    """Returns the script of an array whose element i carries out the runs on line i of the file `runs`."""
    head = ["#!/bin/bash", *(f"#SBATCH {item}" for item in options), ""]
    body = [
        f"cd {shlex.quote(str(folder))} || exit 1",
        f'runs=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" {shlex.quote(str(runs))})',
    ]
    words = f'{shlex.join(command)} --only="$runs"'
    return "\n".join([*head, *body]) + END.format(command=words)


def shares(runs: Sequence[str], elements: int) -> list[list[str]]:
    """Returns the runs of each element of an array: every `elements`-th, so that long runs of a grid spread."""
    return [list(runs[start::elements]) for start in range(min(elements, len(runs)))]
