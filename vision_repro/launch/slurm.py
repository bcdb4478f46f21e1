"""The SLURM engine: submits runs as job arrays and follows them from the login node.

Each element of an array carries out some of the runs with this suite's own command and `--engine=local`. Runs that
other runs need have their own array, and the array of those other runs depends on it. The command can be stopped at any
time: the jobs continue. The same command then follows them again, submits runs that are in no job, and finally writes
table and figure.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from vision_repro.config import Launch, RunConfig, UserError, run_id
from vision_repro.experiment import Plan
from vision_repro.launch import preflight
from vision_repro.launch.batch_script import Request, options, script, shares
from vision_repro.launch.progress import Progress
from vision_repro.store.atomic import write_atomic

OWN = ("engine", "partition", "tasks", "time_limit", "sbatch", "jobs", "wandb_report", "only")
"""Options of the command that are not passed to the jobs."""
FIRST_PAUSE, LAST_PAUSE = 1.0, 20.0
"""Time between two queries to SLURM [s]: short at first, then longer, to spare a busy controller."""
CLIENT_SECONDS = 60
LARGEST_ARRAY = 1000


def call(*command: str) -> tuple[int, str, str]:
    """Returns the exit code, output and errors of a SLURM command; code -1 if it did not answer."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=CLIENT_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return -1, "", str(error)
    return done.returncode, done.stdout, done.stderr.strip()


def check_commands() -> None:
    """Raises UserError if SLURM's commands are not installed here."""
    absent = [name for name in ("sbatch", "squeue", "scontrol") if shutil.which(name) is None]
    if absent:
        raise UserError(f"--engine=slurm: {', '.join(absent)} not found here; start it on a login node of the cluster.")


def has_gpus(partition: str) -> bool:
    """Returns whether the nodes of a partition (the default one if empty) have GPUs."""
    where = [f"--partition={partition}"] if partition else []
    code, text, _ = call("sinfo", "--noheader", "--format=%P|%G", *where)
    rows = [line.split("|") for line in text.splitlines() if "|" in line]
    chosen = [gres for name, gres in rows if partition or name.strip().endswith("*")]
    return code == 0 and any("gpu" in gres for gres in chosen)


def queue() -> dict[str, tuple[str, str]] | None:
    """Returns the state and reason of each of this user's jobs by `<job>_<element>`; None if SLURM does not answer."""
    code, text, _ = call("squeue", "--noheader", "--array", f"--user={os.getuid()}", "--format=%i|%T|%r")
    if code != 0:
        return None
    rows = [line.split("|", 2) for line in text.splitlines() if line.count("|") >= 2]
    return {name.strip(): (state.strip(), reason.strip()) for name, state, reason in rows}


class Jobs:
    """The arrays that were submitted for an experiment, with one JSON file each: `<experiment>/slurm/<name>.json`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def elements(self) -> dict[str, list[str]]:
        """Returns the ids of the runs of each `<job>_<element>`."""
        found: dict[str, list[str]] = {}
        for file in sorted(self.folder.glob("*.json")):
            item = json.loads(file.read_text())
            found |= {f"{item['job']}_{number}": list(runs) for number, runs in enumerate(item["elements"])}
        return found

    def submit(self, launch: Launch, request: Request, command: Sequence[str], runs: Sequence[Sequence[str]]) -> str:
        """Writes and submits the script of an array; returns the job's number.

        Raises:
            UserError: if SLURM refuses it; the message has SLURM's reason.
        """
        log = self.folder.absolute()
        stem = log / f"{time.strftime('%Y%m%d-%H%M%S')}-{len(list(log.glob('*.sbatch'))):03}"
        lines, file = stem.with_suffix(".runs"), stem.with_suffix(".sbatch")
        write_atomic(lines, "".join(" ".join(ids) + "\n" for ids in runs))
        write_atomic(file, script(options(launch, request, log), command, Path.cwd(), lines))
        code, text, error = call("sbatch", "--parsable", str(file))
        job = text.strip().partition(";")[0]
        if code != 0 or not job.isdigit():
            raise UserError(f"SLURM refused the jobs ({error or 'no answer'}): check {file}, --partition and --sbatch.")
        write_atomic(
            stem.with_suffix(".json"), json.dumps({"job": job, "elements": [list(ids) for ids in runs]}) + "\n"
        )
        return job


def command(planned: Plan, arguments: Sequence[str]) -> list[str]:
    """Returns the command that carries out runs of this command on a node."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    module = spec.name if spec and spec.name.startswith("vision_repro.") else f"experiments.{planned.experiment.name}"
    kept = [item for item in arguments if _key(item) not in OWN]
    words = ["--engine=local", f"--jobs={max(1, planned.launch.jobs)}"]
    if planned.preset.shared.precision == "auto":
        # The ids of the runs depend on their precision, so a node must use the precision that was chosen here.
        words.append(f"--precision={planned.runs[0].precision}")
    return [sys.executable, "-m", module, *kept, *words]


def _key(token: str) -> str:
    return token.removeprefix("--").partition("=")[0].replace("-", "_")


def levels(runs: Iterable[RunConfig], ids: Sequence[str]) -> list[list[str]]:
    """Returns the ids of runs in levels: a run needs only runs of earlier levels."""
    depth: dict[str, int] = {}
    for run, name in zip(runs, ids, strict=True):  # a plan lists a run after the runs that it needs
        depth[name] = 1 + max((depth.get(need, -1) for need in run.needs), default=-1)
    return [[name for name in ids if depth[name] == level] for level in sorted(set(depth.values()))]


def do_runs(planned: Plan) -> tuple[int, bool]:
    """Carries out the runs that are not done with SLURM; returns the exit code and whether the summary can be written.

    Raises:
        UserError: for invalid input, or if SLURM refuses it.
    """
    preflight.check_data(planned)
    waiting = {run_id(run): run for run in planned.unique if not _done(planned, run)}
    if not waiting:
        return 0, True
    check_commands()
    jobs = Jobs(planned.root / "slurm")
    live = _live(jobs)
    covered = {run for element in live for run in jobs.elements()[element]}
    new = {name: run for name, run in waiting.items() if name not in covered}
    numbers = sorted({element.partition("_")[0] for element in live}, key=int)
    if numbers:
        print(f"Following jobs {' '.join(numbers)}: {len(covered & set(waiting))} runs.", file=sys.stderr)
    if new:
        needed = {need for run in new.values() for need in run.needs}
        first = {element.partition("_")[0] for element in live if needed & set(jobs.elements()[element])}
        numbers += _submit(planned, jobs, new, tuple(sorted(first, key=int)))
    try:
        _follow(planned, jobs, waiting)
    except KeyboardInterrupt:
        text = " ".join(numbers)
        print(
            f"\nThe jobs {text} continue. The same command follows them again; `scancel {text}` ends them.",
            file=sys.stderr,
        )
        return 130, False
    failed = [name for name, run in waiting.items() if not _done(planned, run)]
    for name in failed:
        print(f"failed: run {name}: {_last_log_line(jobs, name)}", file=sys.stderr)
    return (1 if failed else 0), True


def _done(planned: Plan, run: RunConfig) -> bool:
    return planned.folder(run).outcome(planned.measurements[run_id(run)]) is not None


def _live(jobs: Jobs) -> dict[str, tuple[str, str]]:
    found = queue()
    if found is None:
        raise UserError("SLURM does not answer (squeue): try again later, or run `make doctor`.")
    return {name: state for name, state in found.items() if name in jobs.elements()}


def _submit(planned: Plan, jobs: Jobs, runs: dict[str, RunConfig], after: tuple[str, ...]) -> list[str]:
    """Checks all runs, fetches data here, where there is a network, and submits an array for each level.

    The first level depends on the jobs `after`, every other level on the one before it.
    """
    preflight.check(planned, list(runs.values()))
    preflight.prepare(planned, list(runs.values()))
    launch = planned.launch
    gpus = launch.accelerator == "gpu" or (launch.accelerator == "auto" and has_gpus(launch.partition))
    numbers: list[str] = []
    for level in levels(runs.values(), list(runs)):
        elements = launch.tasks or math.ceil(len(level) / max(1, launch.jobs))
        parts = shares(level, min(elements, LARGEST_ARRAY))
        request = Request(planned.experiment.name, len(parts), gpus, tuple(numbers[-1:]) or after)
        numbers.append(jobs.submit(launch, request, command(planned, sys.argv[1:]), parts))
        print(f"Submitted job {numbers[-1]}: {len(level)} runs in {len(parts)} array tasks.", file=sys.stderr)
    return numbers


def _follow(planned: Plan, jobs: Jobs, waiting: dict[str, RunConfig]) -> None:
    """Shows progress until no job of the experiment is left in the queue."""
    progress = Progress(planned, len(waiting))
    left, pause, idle, shown = dict(waiting), FIRST_PAUSE, 0, ""
    try:
        while left and idle < 3:  # a file may become visible here some time after the end of the job that wrote it
            time.sleep(pause)
            pause = min(LAST_PAUSE, pause * 1.2)
            for name, run in list(left.items()):
                if (result := planned.folder(run).outcome(planned.measurements[name])) is not None:
                    del left[name]
                    progress(run, {"kind": "done", "result": result})
            found = queue()
            mine = jobs.elements()
            states = {} if found is None else {name: state for name, state in found.items() if name in mine}
            idle = idle + 1 if found is not None and not states else 0
            words = "SLURM does not answer" if found is None else _words(states.values())
            shown = _show(progress, words, shown)
    finally:
        progress.close()


def _words(states: Iterable[tuple[str, str]]) -> str:
    """Returns the number of jobs in each state, and why jobs wait."""
    counted = Counter(
        f"{state.lower()} ({reason})" if state == "PENDING" else state.lower() for state, reason in states
    )
    return ", ".join(f"{number} {words}" for words, number in sorted(counted.items()))


def _show(progress: Any, words: str, shown: str) -> str:
    if words and words != shown:
        if progress.bar.disable:
            print(f"jobs: {words}", file=sys.stderr)
        else:
            progress.bar.set_postfix_str(words)
    return words


def _last_log_line(jobs: Jobs, run: str) -> str:
    """Returns the last line of the newest log of a run's job, and the path of the log."""
    names = [name for name, runs in jobs.elements().items() if run in runs]
    logs = [file for name in names if (file := jobs.folder / f"{name}.log").exists()]
    if not logs:
        return "its job has written no log"
    newest = max(logs, key=lambda file: file.stat().st_mtime)
    lines = [line for line in newest.read_text(errors="replace").splitlines() if line.strip()]
    return f"{lines[-1] if lines else 'the log is empty'} (see {newest})"
