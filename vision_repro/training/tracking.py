"""Logs to W&B, never reads from it, and never lets it harm a run.

With a key runs are logged online, without one offline; `WANDB_MODE` overrides this. Errors in every call are caught: a
missing package, a full disk or a broken server costs one warning and the W&B copy, and nothing else.
"""

from __future__ import annotations

import netrc
import os
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from vision_repro.config import RunConfig, plain
from vision_repro.training.context import RunContext
from vision_repro.training.signals import CODE

PROJECT = "vision-repro"


def mode() -> str:
    """Returns the W&B mode: `WANDB_MODE` if set, else `online` with a key and `offline` without."""
    chosen = os.environ.get("WANDB_MODE")
    if chosen:
        return chosen
    if os.environ.get("WANDB_API_KEY"):
        return "online"
    try:
        host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("//")[-1].split("/")[0].split(":")[0]
        return "online" if netrc.netrc().authenticators(host) else "offline"
    except (OSError, netrc.NetrcParseError):
        return "offline"


def quiet_settings() -> Any:
    """Returns W&B's settings: it prints nothing, records no system metrics and no code, and does not wait long."""
    # Imported here for start-up time: wandb takes long to import.
    import wandb

    return wandb.Settings(
        init_timeout=float(os.environ.get("WANDB_INIT_TIMEOUT", "30")),
        # Otherwise W&B would wait for days at the end of a run if its server is gone.
        finish_timeout=float(os.environ.get("WANDB_FINISH_TIMEOUT", "60")),
        console="off",
        silent=True,
        x_disable_stats=True,
        disable_git=True,
        save_code=False,
    )


def public_address(url: object) -> str:
    """Returns an https address without its query, which can hold the key of an anonymous account; else ""."""
    parts = urlsplit(url) if isinstance(url, str) else urlsplit("")
    if parts.scheme != "https" or not parts.hostname or "@" in parts.netloc:
        return ""
    return urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))


class Tracker:
    """Logs a run to W&B through Lightning's WandbLogger; only the first rank logs."""

    def __init__(self, config: RunConfig, context: RunContext, *, enabled: bool) -> None:
        self.logger: Any = None
        if enabled and mode() != "disabled":
            self._shield(lambda: self._start(config, context))

    def _start(self, config: RunConfig, context: RunContext) -> None:
        # Imported here for start-up time: lightning takes long to import.
        from lightning.pytorch.loggers import WandbLogger

        values = plain(config)
        setting = ", ".join(f"{name}={values[name]}" for name in context.settings)
        in_sweep = "WANDB_SWEEP_ID" in os.environ
        logger = WandbLogger(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            # A sweep sets the id of its runs; otherwise the run's id lets a second start continue the W&B run.
            id=None if in_sweep else context.folder.id,
            resume="allow",
            name=f"{setting}, seed={config.seed}",
            group=context.experiment,
            job_type=setting,
            save_dir=str(context.folder.path),
            mode=mode(),
            log_model=False,
            settings=quiet_settings(),
        )
        logger.experiment.config.update(values, allow_val_change=True)
        self.logger = logger

    def address(self) -> str:
        """Returns the https address of the run, or "" if it is offline or on a local server."""
        found: list[str] = []
        if self.logger is not None and mode() not in ("offline", "dryrun"):
            self._shield(lambda: found.append(public_address(self.logger.experiment.url)))
        return found[0] if found else ""

    def log(self, values: Mapping[str, float | int], step: int) -> None:
        """Logs numbers at an optimizer step."""
        if self.logger is not None:
            self._shield(lambda: self.logger.log_metrics(dict(values), step=step))

    def close(self, summary: Mapping[str, Any], failed: bool = False) -> None:
        """Writes the summary and ends the W&B run."""
        if self.logger is None:
            return

        def end() -> None:
            run = self.logger.experiment
            run.summary.update(dict(summary))
            run.finish(exit_code=1 if failed else 0)

        self._shield(end)

    def pause(self) -> None:
        """Marks the W&B run as stopped and to be continued, and ends it in this process.

        Waits at most 10 s: a server that does not answer must not use up the time that a cluster allows for stopping.
        """
        if self.logger is None:
            return

        def end() -> None:
            run = self.logger.experiment
            run.mark_preempting()
            run.finish(exit_code=CODE)

        helper = threading.Thread(target=self._shield, args=(end,), daemon=True)
        helper.start()
        helper.join(timeout=10)

    def _shield(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            self.logger = None
            text = str(error).splitlines()[0] if str(error) else type(error).__name__
            print(f"W&B is off for this run ({text}); the local tables are complete.", file=sys.stderr)
