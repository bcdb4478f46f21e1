"""Starts commands from a process that has imported everything: what costs each test half a minute is paid once.

`python -m tests.launch.forked` reads one JSON order a line and answers with one. A command runs in a fork of it, as the
leader of a process group of its own, with its output in a file.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any


def serve() -> None:
    """Carries out orders until the input ends."""
    from vision_repro.launch import pool
    from vision_repro.search import suggest
    from vision_repro.training.device import quiet_threads

    quiet_threads()
    pool.preload()
    suggest.engine()
    answers = os.dup(1)
    for line in sys.stdin:
        order = json.loads(line)
        answer = _ended(order["wait"]) if "wait" in order else start(order)
        os.write(answers, f"{answer}\n".encode())


def _ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def start(order: Mapping[str, Any]) -> int:
    """Returns the id of a child that carries out the command."""
    child = os.fork()
    if child:
        return child
    os.setsid()
    for number, name in ((0, os.devnull), (1, order["log"]), (2, order["log"])):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_APPEND), number)
    os.environ.update(order["environment"])
    module = importlib.import_module(order["module"])
    from vision_repro import cli

    own = hasattr(module, "EXPERIMENT")
    code = cli.main(module.EXPERIMENT, order["tokens"]) if own else module.main(order["tokens"])
    sys.stdout.flush()
    sys.stderr.flush()
    # as a process ends, W&B's own hooks too
    importlib.import_module("atexit")._run_exitfuncs()
    os._exit(code)


class Forked:
    """Starts commands and waits for them."""

    def __init__(self, root: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.launch.forked"],
            cwd=root,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.running: set[int] = set()

    def order(self, **order: Any) -> int:
        """Returns the answer to an order."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(order), file=self.process.stdin, flush=True)
        return int(self.process.stdout.readline())

    def start(self, module: str, tokens: Sequence[str], out: Path, **environment: str) -> int:
        """Starts a command and returns the id of its process; what it prints is in `<out>.log`."""
        known = {
            "WANDB_MODE": "disabled",
            "WANDB_ERROR_REPORTING": "false",
            "VISION_REPRO_CACHE": str(out.parent / "cache"),
        }
        log = str(out.with_suffix(".log"))
        words = [*tokens, f"--out={out}"]
        child = self.order(module=module, tokens=words, environment={**known, **environment}, log=log)
        self.running.add(child)
        return child

    def wait(self, child: int) -> int:
        """Returns the exit code of a command, negative for a signal."""
        code = self.order(wait=child)
        self.running.discard(child)
        return code

    def run(self, module: str, tokens: Sequence[str], out: Path, **environment: str) -> tuple[int, str]:
        """Returns exit code and output of a command."""
        code = self.wait(self.start(module, tokens, out, **environment))
        return code, out.with_suffix(".log").read_text()

    def kill(self, child: int) -> None:
        """Ends a command, and no other process of it, as a machine that fails does."""
        os.kill(child, signal.SIGKILL)

    def close(self) -> None:
        """Ends all."""
        for child in self.running:
            os.killpg(child, signal.SIGKILL)
        with self.process as process:  # closes the pipes, which ends it, and waits
            assert process.stdin is not None
            process.stdin.close()


def until(found: Callable[[], bool], seconds: float, what: str) -> None:
    """Waits until something is so."""
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.05)


if __name__ == "__main__":
    serve()
