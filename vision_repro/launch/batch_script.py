"""Writes SLURM batch scripts: the resources of a job, and how it ends when it is stopped."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vision_repro.config import Launch
from vision_repro.training.signals import CONTINUED

NOTICE = 60
"""Time between the signal to a job and its time limit [s]; SLURM may send the signal up to a minute earlier."""

# srun runs in the background, because a shell handles no signal while it waits for a command in the foreground. The
# shell only notes the signal: SLURM sends it to the ranks too. The ranks save and end one after the other, and one that
# ends must not kill those that still save. A signal interrupts `wait`, so the loop calls it again to get the exit code.
# SLURM would requeue even a job that a person has cancelled, so a job that is ending requeues itself only if it ends at
# its time limit.
END = f"""
# since SLURM 22.05, srun does not use sbatch's --cpus-per-task by itself
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
    """A request for a job array, beyond `Launch`: name, number of elements, whether it needs GPUs, earlier jobs."""

    name: str
    elements: int
    gpus: bool
    after: tuple[str, ...] = ()


def options(launch: Launch, request: Request, log: Path) -> list[str]:
    """Returns the options of sbatch, one for each line of the script."""
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
    # Last, because the later one of two equal options counts.
    return found + shlex.split(launch.sbatch)


def script(options: Sequence[str], command: Sequence[str], folder: Path, runs: Path) -> str:
    """Returns the script of an array; its element i carries out the runs on line i of the file `runs`."""
    head = ["#!/bin/bash", *(f"#SBATCH {item}" for item in options), ""]
    body = [
        f"cd {shlex.quote(str(folder))} || exit 1",
        f'runs=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" {shlex.quote(str(runs))})',
    ]
    words = f'{shlex.join(command)} --only="$runs"'
    return "\n".join([*head, *body]) + END.format(command=words)


def shares(runs: Sequence[str], elements: int) -> list[list[str]]:
    """Returns the runs of each element of an array: every `elements`-th one, which spreads the long runs of a grid."""
    return [list(runs[start::elements]) for start in range(min(elements, len(runs)))]
