"""Shows the progress of a command's runs: one bar in a terminal, else one line per run."""

from __future__ import annotations

import sys
import time
from typing import Any

from tqdm import tqdm

from vision_repro.config import RunConfig
from vision_repro.experiment import Plan


class Progress:
    """One bar over all runs with the remaining time; plain lines if the output is not a terminal."""

    def __init__(self, planned: Plan, total: int) -> None:
        self.settings = planned.experiment.settings
        self.done, self.total, self.start = 0, total, time.monotonic()
        tqdm.monitor_interval = 0  # its thread would make forking unsafe
        self.bar = tqdm(total=total, unit="run", disable=not sys.stderr.isatty(), dynamic_ncols=True)

    def name(self, run: RunConfig) -> str:
        """Returns the setting and seed of a run."""
        first = f"{run.objective}, " if run.objective != "supervised" else ""
        return first + ", ".join(f"{name}={getattr(run, name)}" for name in (*self.settings, "seed"))

    def __call__(self, run: RunConfig, message: dict[str, Any]) -> None:
        """Shows one message of a worker."""
        kind = message["kind"]
        if kind == "step":
            values = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in message["values"].items())
            self.bar.set_postfix_str(f"{self.name(run)}: epoch {message['epoch']:.1f}, {values}")
        elif kind == "held":
            self.bar.write(f"{self.name(run)}: another process carries out this run; waiting for it.", file=sys.stderr)
        elif kind in ("done", "failed"):
            loud = kind == "failed" or message.get("result", {}).get("status") == "diverged"
            self.ended(self.name(run), _outcome(message), loud=loud)

    def ended(self, name: str, text: str, *, loud: bool) -> None:
        """Counts a run that ended, and prints a line if there is no bar or if it is `loud`."""
        self.done += 1
        self.bar.update()
        if self.bar.disable or loud:
            left = (time.monotonic() - self.start) / self.done * (self.total - self.done)
            tqdm.write(f"[{self.done}/{self.total}] {name}: {text} ({left:.0f} s left)", file=sys.stderr)

    def close(self) -> None:
        """Closes the bar."""
        self.bar.close()


def _outcome(message: dict[str, Any]) -> str:
    """Returns the main metric of a run that ended, or why it has none."""
    result = message.get("result", {})
    metrics = {name: cell["value"] for name, cell in result.get("metrics", {}).items()}
    shown = [name for name in ("test_accuracy", "val_loss", *metrics) if metrics.get(name) is not None][:1]
    text = message.get("reason") or ", ".join(f"{name.replace('_', ' ')} {metrics[name]:.3f}" for name in shown)
    return str(text or result.get("status", "done elsewhere"))
