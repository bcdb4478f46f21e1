"""`make doctor`: reports what this machine can do, and what to do if something is missing.

It changes nothing and prints no secret. Only a child process imports torch, while the other checks run.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from vision_repro.config import UserError, describe, option, parse_single
from vision_repro.launch import slurm
from vision_repro.store.lock import Lock
from vision_repro.training import tracking
from vision_repro.training.device import cores, cpu_has_bf16, processor
from vision_repro.training.provenance import ROOT

MARKS = {"ok": "ok", "note": "-", "bad": "MISSING"}
GIB = 2**30
NEEDED = (
    "torch",
    "lightning",
    "torchmetrics",
    "timm",
    "torchvision",
    "numpy",
    "scipy",
    "sklearn",
    "matplotlib",
    "yaml",
    "tqdm",
)
"""Packages that every run needs."""
CHILD_SECONDS = 180


@dataclass(frozen=True)
class Options:
    """Options of the command line."""

    data_root: str | None = option(None, "folder with data sets you already have (default: $VISION_REPRO_DATA)")
    out: str = option("outputs", "folder for runs, tables and figures")


@dataclass(frozen=True)
class Finding:
    """One result: `ok`, `note` (something is missing that not everybody needs) or `bad` (nothing can run)."""

    state: str
    name: str
    text: str
    advice: str = ""

    def __str__(self) -> str:
        line = f"  {MARKS[self.state]:<8}{self.name:<14}{self.text}"
        return line + (f"\n{'':<24}-> {self.advice}" if self.advice else "")


# Checks without torch


def software() -> Iterator[Finding]:
    """Checks Python, the packages that every run needs, and whether their versions are those of the lock file."""
    version = sys.version_info
    good = version >= (3, 11)
    yield Finding(
        "ok" if good else "bad",
        "Python",
        platform.python_version(),
        "" if good else "Python 3.11 or newer is needed: make setup PYTHON=python3.11",
    )
    absent = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if absent:
        yield Finding("bad", "packages", f"not installed: {', '.join(absent)}", "make setup")
        return
    differing, known = _unlocked(ROOT / "requirements.lock")
    if not known:
        yield Finding("note", "packages", "not compared: there is no requirements.lock")
    elif differing:
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        yield Finding(
            "note", "packages", f"not as in requirements.lock: {', '.join(differing[:3])}{more}", "make setup"
        )
    else:
        yield Finding("ok", "packages", f"{known} as in requirements.lock")


def _unlocked(lock: Path) -> tuple[list[str], int]:
    """Returns the installed packages whose version differs from the lock's, and the number of compared packages."""
    differing, known = [], 0
    for line in lock.read_text().splitlines() if lock.exists() else ():
        name, equals, rest = line.partition("==")
        if not equals or line.startswith((" ", "#")):
            continue
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # the lock also lists packages for other systems
        known += 1
        wanted = rest.split()[0]
        if installed != wanted:
            differing.append(f"{name} {installed} instead of {wanted}")
    return differing, known


def machine() -> Iterator[Finding]:
    """Checks processor and memory."""
    bf16 = "with bf16" if cpu_has_bf16() else "without bf16 (runs choose fp32)"
    yield Finding("ok", "processor", f"{cores()} cores, {processor()}, {bf16}")
    memory = _memory()
    if memory is not None:
        low = memory < 4 * GIB
        yield Finding(
            "note" if low else "ok",
            "memory",
            f"{memory / GIB:.0f} GiB free",
            "a worker needs about 1 GiB: use JOBS=1" if low else "",
        )


def _memory() -> int | None:
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


def disks(out: Path) -> Iterator[Finding]:
    """Checks free space for results and shared memory, and whether files can be locked."""
    yield room("results", out, 1, "--out", needed=True)
    yield room("temporary", Path(tempfile.gettempdir()), 1, "TMPDIR")
    shared = Path("/dev/shm")
    if shared.is_dir():
        free = shutil.disk_usage(shared).free / GIB
        advice = (
            ""
            if free >= 1
            else "processes that decode images share them there: use --workers=0, or docker --shm-size=8g"
        )
        yield Finding("note" if advice else "ok", "shared memory", f"{free:.1f} GiB free", advice)
    yield _locks(out)


def _nearest(folder: Path) -> Path:
    """Returns the folder, or the nearest parent folder that exists."""
    return next((item for item in (folder.absolute(), *folder.absolute().parents) if item.is_dir()), Path("/"))


def room(name: str, folder: Path, least: float, option: str, *, needed: bool = False) -> Finding:
    """Checks that a folder can be written and has `least` GiB free; if it is `needed`, nothing runs without it."""
    place = _nearest(folder)
    free, writable = shutil.disk_usage(place).free / GIB, os.access(place, os.W_OK)
    advice = "" if writable else f"{place} is not writable: choose another folder with {option}"
    advice = advice or (f"free some space, or choose another folder with {option}" if free < least else "")
    state = "bad" if needed and (not writable or free < 0.05) else "note" if advice else "ok"
    return Finding(state, name, f"{free:.0f} GiB free in {folder}", advice)


def _locks(out: Path) -> Finding:
    place = _nearest(out)
    try:
        with tempfile.TemporaryDirectory(dir=place) as folder:
            first, second = Lock(Path(folder)), Lock(Path(folder))
            held = first.acquire() and not second.acquire()
            first.release()
            second.release()
    except (OSError, UserError):
        return Finding("note", "file locks", f"could not be tested in {place}")
    if held:
        return Finding("ok", "file locks", "work: several processes may share the results folder")
    return Finding(
        "note",
        "file locks",
        f"do not work in {place}",
        "results stay correct, but two processes may do the same run: start one process at a time",
    )


def wandb() -> Iterator[Finding]:
    """Checks whether and where runs are logged to W&B; never prints the key."""
    if importlib.util.find_spec("wandb") is None:
        yield Finding("note", "W&B", "not installed: runs work without it and give the same results", "make setup")
        return
    mode = tracking.mode()
    parts = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai"))
    host = f"{parts.scheme}://{parts.hostname}"  # without a password or key in the address
    if mode == "online":
        yield Finding("ok", "W&B", f"online, {host}, project {os.environ.get('WANDB_PROJECT', tracking.PROJECT)}")
    elif mode == "disabled":
        yield Finding("note", "W&B", "off (WANDB_MODE=disabled)", "unset WANDB_MODE to log")
    else:
        yield Finding("note", "W&B", f"{mode}: kept on disk until `wandb sync`", "`wandb login` to log online")


def cluster() -> Iterator[Finding]:
    """Checks SLURM's commands and partitions."""
    absent = [name for name in ("sbatch", "squeue", "scontrol", "srun") if shutil.which(name) is None]
    if absent:
        yield Finding("note", "SLURM", "not here", "for ENGINE=slurm, start on a login node of your cluster")
        return
    code, text, error = slurm.call("sinfo", "--noheader", "--format=%P|%a|%D|%l|%G")
    if code != 0:
        yield Finding(
            "note",
            "SLURM",
            f"installed, but does not answer: {error.splitlines()[0] if error else 'sinfo'}",
            "for ENGINE=slurm, start on a login node of your cluster",
        )
        return
    for line in text.splitlines():
        name, up, nodes, limit, gres = (*line.split("|"), "", "", "", "")[:5]
        kind = gres if "gpu" in gres else "no GPUs"
        default = ", the default" if name.endswith("*") else ""
        yield Finding(
            "ok", "SLURM", f"PARTITION={name.rstrip('*')}: {nodes} nodes, {kind}, {up}, at most {limit}{default}"
        )


# Checks with torch: a child process prints the results as JSON


def with_torch(data_root: str | None) -> dict[str, Any]:
    """Returns the devices that torch finds on this machine, and where the data sets are."""
    # Imported here for start-up time: torch takes long to import.
    import torch

    from vision_repro import datasets
    from vision_repro.files.places import cache_folder, fetched

    gpus = [
        {"name": torch.cuda.get_device_name(index), "gib": torch.cuda.get_device_properties(index).total_memory / GIB}
        for index in range(torch.cuda.device_count())
    ]
    cache = cache_folder()
    roots = [Path(data_root)] if data_root else []
    places = {}
    for name in datasets.names():
        if ":" not in name and name != "folder":
            places[name] = _place(name, datasets.data_set(name), [*roots, fetched(cache)], cache)
    return {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "gpus": gpus,
        "bf16": bool(gpus) and torch.cuda.is_bf16_supported(),
        "nccl": torch.distributed.is_available() and torch.distributed.is_nccl_available(),
        "gloo": torch.distributed.is_available() and torch.distributed.is_gloo_available(),
        "data": places,
        "cache": str(cache),
    }


def _place(name: str, module: Any, roots: Sequence[Path], cache: Path) -> str:
    """Returns the folder of a data set, empty if there is none; `make data-check` checks its content."""
    if name.startswith("digits"):
        return "part of scikit-learn"
    known = getattr(module, "FOLDERS", (name,))
    folders = known.get(name, (name,)) if isinstance(known, dict) else known
    for root in roots:
        for folder in (*folders, name):
            if (root / folder).is_dir() and any((root / folder).iterdir()):
                return str(root / folder)
    return next((str(item) for item in sorted(cache.glob(f"{name}-*/")) if item.is_dir()), "")


def hardware(found: dict[str, Any]) -> Iterator[Finding]:
    """Checks what torch finds: GPUs, their arithmetic, and the backends for several processes."""
    yield Finding("ok", "torch", f"{found['torch']}, CUDA {found['cuda'] or 'none'}")
    if found["gpus"]:
        names = ", ".join(f"{gpu['name']} ({gpu['gib']:.0f} GiB)" for gpu in found["gpus"])
        yield Finding("ok", "GPUs", f"{len(found['gpus'])}: {names}; {'bf16' if found['bf16'] else 'no bf16, fp32'}")
    elif shutil.which("nvidia-smi"):
        yield Finding(
            "note",
            "GPUs",
            "torch finds none, although nvidia-smi is installed",
            "check `nvidia-smi`, CUDA_VISIBLE_DEVICES and the version of the driver",
        )
    else:
        yield Finding("note", "GPUs", "none: runs use the processor", "PRESET=cpu is made for this")
    parts = [name for name in ("nccl", "gloo") if found[name]]
    wanting = found["gpus"] and not found["nccl"]
    yield Finding(
        "note" if wanting or not parts else "ok",
        "several ranks",
        f"with {' and '.join(parts) or 'no backend'}",
        "this torch has no NCCL: install a CUDA build for DEVICES=2 and more" if wanting else "",
    )


def data_sets(found: dict[str, str], data_root: str | None) -> Iterator[Finding]:
    """Checks which data sets are on this machine, and says how to get the others."""
    if data_root and not Path(data_root).is_dir():
        yield Finding("note", "data root", f"{data_root} is not a folder", "set DATA_ROOT= or VISION_REPRO_DATA")
    for name, place in found.items():
        if place:
            yield Finding("ok", name, place)
    absent = [name for name, place in found.items() if not place]
    if absent:
        yield Finding(
            "note",
            "not here",
            ", ".join(absent),
            "`make data DATA=<name>` fetches one or says which files to put where; or set DATA_ROOT=<folder>",
        )


def _ask_torch(data_root: str | None) -> Callable[[], tuple[dict[str, Any] | None, str]]:
    """Starts the child process; returns a function that waits for its result, or for the reason why there is none."""
    code = (
        f"import json; from vision_repro.launch.doctor import with_torch; print(json.dumps(with_torch({data_root!r})))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
    )

    def answer() -> tuple[dict[str, Any] | None, str]:
        try:
            text, error = process.communicate(timeout=CHILD_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return None, f"importing torch took longer than {CHILD_SECONDS} s"
        if process.returncode == 0:
            return dict(json.loads(text.splitlines()[-1])), ""
        lines = error.strip().splitlines()
        return None, lines[-1] if lines else f"it ended with code {process.returncode}"

    return answer


def main(tokens: Sequence[str]) -> int:
    """Prints what this machine can do; returns the exit code: 1 if nothing can run, 2 for invalid input."""
    if "--help" in tokens or "-h" in tokens:
        print(f"Reports what this machine can do, and what to do if something is missing.\n\n{describe(Options)}")
        return 0
    try:
        options = Options(**parse_single(tokens, Options))
    except UserError as error:
        print(f"doctor: {error}", file=sys.stderr)
        return 2
    root = options.data_root or os.environ.get("VISION_REPRO_DATA")
    answer, shown = _ask_torch(root), []

    def section(title: str, findings: Iterator[Finding]) -> None:
        print(f"{title}:", flush=True)
        for item in findings:
            print(item, flush=True)
            shown.append(item)

    section("Software", software())
    section("This machine", machine())
    section("Disks", disks(Path(options.out)))
    section("W&B", wandb())
    section("Cluster", cluster())
    found, why = answer()
    if found is None:
        section("torch", iter([Finding("bad", "torch", f"cannot be used: {why}", "make setup")]))
    else:
        section("Devices", hardware(found))
        section("Data sets", data_sets(found["data"], root))
        section("Data cache", iter([room("free", Path(found["cache"]), 5, "VISION_REPRO_CACHE")]))
    bad = [item.name for item in shown if item.state == "bad"]
    print(f"Nothing can run yet: {', '.join(bad)}." if bad else "Ready: try make exp-data-scaling PRESET=smoke.")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
