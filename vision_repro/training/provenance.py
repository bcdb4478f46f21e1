"""Records where a number comes from: code, versions and command. Does not import torch."""

from __future__ import annotations

import functools
import hashlib
import platform
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "lightning", "torchvision", "timm", "torchmetrics", "numpy", "wandb")
ROOT = Path(__file__).resolve().parents[2]


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@functools.cache
def code() -> dict[str, Any]:
    """Returns commit, whether files differ from it, the lock file's hash and package versions; `None` if unknown."""
    status = _git("status", "--porcelain", "--untracked-files=no")
    lock = ROOT / "requirements.lock"
    return {
        "commit": _git("rev-parse", "HEAD"),
        "dirty": None if status is None else bool(status),
        "lock_sha256": hashlib.sha256(lock.read_bytes()).hexdigest() if lock.exists() else None,
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
    }


def command() -> str:
    """Returns the command line of this process without the folders of this machine, which affect no number."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    script = ["-m", spec.name] if spec and spec.name != "__main__" else [Path(sys.argv[0]).name]
    kept = [token for token in sys.argv[1:] if not token.startswith(("--out=", "--data_root="))]
    return shlex.join(["python", *script, *kept])
