"""The life of one rank of one run, in a process of its own that the pool has forked."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from vision_repro.config import RunConfig, UserError
from vision_repro.store.atomic import DiskFullError
from vision_repro.training import signals
from vision_repro.training.context import RunContext


@dataclass(frozen=True)
class Rank:
    """The place of a process among the `devices` of its run; `slot` is the run's place among those that go at once."""

    number: int
    devices: int
    port: int
    slot: int
    accelerator: str


def work(config: RunConfig, context: Callable[..., RunContext], folder: Path, rank: Rank, pipe: Connection) -> None:
    """Carries out a run as one of its ranks, with all output in a log file of its folder, and ends this process."""
    _die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _join_group(rank)
    tell = pipe.send if rank.number == 0 else silent
    with _log_to(folder / (f"log-{rank.number}.txt" if rank.number else "log.txt")):
        code = _carry_out(config, context, tell)
    sys.stdout.flush()
    os._exit(code)


def _carry_out(config: RunConfig, context: Callable[..., RunContext], tell: Callable[[dict[str, Any]], None]) -> int:
    import torch  # the parent has imported it: see `pool.preload`

    from vision_repro.training import run

    torch.set_num_threads(config.threads)
    try:
        result = run.execute(config, context(config, lambda values: tell({"kind": "step", **values})))
    except signals.Stopped:
        tell({"kind": "stopped"})
        return signals.CODE
    except DiskFullError as error:
        tell({"kind": "disk", "reason": str(error)})
    except UserError as error:
        tell({"kind": "user", "reason": str(error)})
    except BaseException as error:
        traceback.print_exc()
        tell({"kind": "error", "reason": f"{type(error).__name__}: {error}".splitlines()[0]})
    else:
        tell({"kind": "done", "result": result})
        return 0
    return 1


def silent(message: dict[str, Any]) -> None:
    """Drops what a rank other than the first has to tell."""


def _join_group(rank: Rank) -> None:
    """Tells this process its place in the group of ranks, and which GPUs its run may use."""
    if rank.accelerator == "gpu":
        import torch

        visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(torch.cuda.device_count()))))
        names = visible.split(",")
        first = rank.slot * rank.devices % len(names)
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(names[first : first + rank.devices])
    if rank.devices > 1:
        os.environ |= {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(rank.port),
            "WORLD_SIZE": str(rank.devices),
            "RANK": str(rank.number),
            "LOCAL_RANK": str(rank.number),
            "NODE_RANK": "0",
        }


def _die_with_parent() -> None:
    """Asks Linux to kill this process when its parent ends, so that no rank outlives a killed experiment."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


@contextmanager
def _log_to(path: Any) -> Iterator[None]:
    """Sends all this process prints, also from compiled code, to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
