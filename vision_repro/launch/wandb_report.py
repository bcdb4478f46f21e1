"""Logs the result of an experiment as one W&B run: `log(folder)`, or `python -m vision_repro.launch.wandb_report DIR`.

A separate process does this after all runs are done: W&B has one session per process, and in a process that has logged
a run the outcome would become part of that run. If the process fails or takes too long, one sentence is printed. The
files of the experiment are read and never changed.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import importlib.util
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from vision_repro.accounting.ledger_lines import LEDGER_NAME
from vision_repro.analysis.claims import VERDICTS
from vision_repro.store.lock import Lock
from vision_repro.store.table import TABLE_NAME
from vision_repro.training.tracking import PROJECT, mode, public_address, quiet_settings

TIMEOUT = 120.0
"""Maximum time of the process [s]; W&B itself would try for days to reach a server that is gone."""
OF_A_RUN = tuple(
    f"WANDB_{name}"
    for name in ("RUN_ID", "RUN_GROUP", "JOB_TYPE", "NAME", "RESUME", "SWEEP_ID", "SWEEP_PARAM_PATH", "SERVICE")
)
"""Environment variables that W&B or its agent sets for a training run; the outcome is a different run."""
_ENDS = ("mean", "low", "high", "level", "n")


def log(folder: Path, *, enabled: bool = True) -> bool:
    """Logs the outcome in `folder` in a separate process; prints the result and returns whether it was logged.

    A second call updates the same W&B run.
    """
    obstacle = _obstacle(enabled)
    if obstacle:
        print(f"Nothing was logged to W&B: {obstacle}.")
        return False
    command = [sys.executable, "-m", "vision_repro.launch.wandb_report", str(folder.absolute())]
    done, text = _carried_out(command, TIMEOUT)
    if done:
        print(text)
    else:
        print(f"The outcome is not in W&B ({text}); {folder} is complete.", file=sys.stderr)
    return done


def _obstacle(enabled: bool) -> str:
    if not enabled:
        return "--wandb=off"
    if mode() == "disabled":
        return "WANDB_MODE=disabled"
    return "" if importlib.util.find_spec("wandb") else "the package wandb is not installed"


def _carried_out(command: Sequence[str], timeout: float) -> tuple[bool, str]:
    """Runs a command; returns whether it succeeded, and its last printed line or why it failed."""
    # A file instead of a pipe: a child process of W&B that outlives the command would keep a pipe open.
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        try:
            process = subprocess.Popen(
                command,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            return False, str(error)
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False, f"it took longer than {timeout:g} s"
        finally:
            _end(process)
        output.seek(0)
        lines = output.read().strip().splitlines()
    return code == 0 and bool(lines), lines[-1] if lines else f"its process ended with code {code}"


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kills a process that still runs, with its child processes."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _environment() -> dict[str, str]:
    """Returns the environment without the variables of a training run; this package can be imported in it."""
    kept = {name: value for name, value in os.environ.items() if name not in OF_A_RUN}
    path = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(path)}


def wandb_id(folder: Path) -> str:
    """Returns the id of the W&B run, which depends on the experiment, the preset and the changed options."""
    text = f"{folder.parent.name}/{folder.name}"
    return f"summary-{hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:12]}"


def write(folder: Path) -> str:
    """Logs the outcome in `folder` in this process; returns a sentence that says where it is.

    W&B's own files are written to the folder `wandb` next to `folder`; they replace those of an earlier call.
    """
    # Imported here for start-up time: wandb takes long to import.
    import wandb

    chosen: Any = mode()
    with Lock(folder.parent / "wandb"):
        run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=wandb_id(folder),
            resume="allow",
            name=folder.name[:128],
            group=folder.parent.name,
            job_type="summary",
            dir=str(folder.parent),
            mode=chosen,
            settings=quiet_settings(),
        )
        kept, offline = Path(run.dir).parent, run.offline
        # Tables wait here for their upload, not in the home directory, where nothing would remove them.
        os.environ.setdefault("WANDB_DATA_DIR", str(kept / "data"))
        _fill(run, folder)
        address = "" if offline else public_address(run.url)
        run.finish()
        _forget(folder, kept)
    if offline:
        return f"The outcome for W&B is stored here; to upload it: {shlex.join(['wandb', 'sync', str(kept)])}"
    return f"The outcome in W&B: {address or wandb_id(folder)}"


def _fill(run: Any, folder: Path) -> None:
    verdicts = json.loads(_text(folder / "verdicts.json") or "[]")
    run.config.update(_config(folder), allow_val_change=True)
    run.log(_shown(folder, verdicts))
    if (folder / "verdicts.json").exists():
        run.summary.update(_counts(verdicts))


def _config(folder: Path) -> dict[str, Any]:
    """Returns the experiment, the config that its runs share, the commit, and the cost in device-hours."""
    config = yaml.safe_load(_text(folder / "config.yaml") or "{}")
    sources = json.loads(_text(folder / "provenance.json") or "{}")
    traced = {name: sources[name] for name in ("commit", "device", "device_hours", "runs") if name in sources}
    return {"experiment": folder.parent.name, **config, **traced}


def _shown(folder: Path, verdicts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns figure and tables as W&B objects; files that the folder does not have are left out."""
    # Imported here for start-up time: wandb takes long to import.
    import wandb

    shown: dict[str, Any] = {}
    if (folder / "figure.png").exists():
        shown["figure"] = wandb.Image(str(folder / "figure.png"))
    for name, file in (("table", TABLE_NAME), ("summary", "summary.csv"), ("ledger", LEDGER_NAME)):
        columns, rows = _csv(_text(folder / file))
        if columns:
            shown[name] = wandb.Table(columns=columns, data=rows)
    if verdicts:
        columns, rows = _verdict_rows(verdicts)
        shown["verdicts"] = wandb.Table(columns=columns, data=rows)
    return shown


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def _csv(text: str) -> tuple[list[str], list[list[Any]]]:
    """Returns the columns and rows of a CSV text; a column has numbers only if all cells are, as W&B needs one type."""
    lines = list(csv.reader(text.splitlines()))
    if not lines:
        return [], []
    columns = [_typed(cells) for cells in zip(*lines[1:], strict=True)]
    return lines[0], [list(row) for row in zip(*columns, strict=True)]


def _typed(cells: Sequence[str]) -> list[Any]:
    """Returns a column as numbers, with None for empty cells, or unchanged if a cell is not a number."""
    for kind in (int, float):
        try:
            return [None if cell in ("", "nan") else kind(cell) for cell in cells]
        except ValueError:
            continue
    return list(cells)


def _verdict_rows(verdicts: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    words = ("claim", "statement", "source", "verdict", "metric", "unit", "reason")
    rows = []
    for item in verdicts:
        estimate = item.get("estimate") or {}
        rows.append([*(str(item[name]) for name in words), *(estimate.get(name) for name in _ENDS)])
    return [*words, *_ENDS], rows


def _counts(verdicts: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Returns the number of claims with each verdict, under names such as `claims_holds`."""
    counted = Counter(item["verdict"] for item in verdicts)
    return {f"claims_{verdict}": counted[verdict] for verdict in VERDICTS}


def _forget(folder: Path, kept: Path) -> None:
    """Removes W&B's files of earlier calls: syncing them would upload the same run twice."""
    for old in kept.parent.glob(f"*run-*-{wandb_id(folder)}"):
        if old != kept and old.is_dir() and not old.is_symlink():
            shutil.rmtree(old, ignore_errors=True)


def main(tokens: Sequence[str]) -> int:
    """Logs the outcome in the given folder; prints where it is, or why it failed. Returns the exit code."""
    try:
        print(write(Path(tokens[0]).absolute()))
    except Exception as error:
        print(str(error).splitlines()[0] if str(error) else type(error).__name__)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
