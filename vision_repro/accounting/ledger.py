"""The cost of each run of an experiment: its stage, and the `cost.json` of its folder. Imports no torch.

Money and utilisation are computed from `cost.json` and from the table of devices (`devices.py`) each time the ledger is
written. An unknown number is None, never 0.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from vision_repro.accounting.devices import Device, devices, find_device
from vision_repro.config import RunConfig, UserError, run_id
from vision_repro.store.runs import RunFolder

COST_NAME = "cost.json"
STAGES = ("pre-training", "search", "fine-tuning", "training", "measuring")
"""In this order: runs whose weights other runs start from; runs among which a learning rate is chosen; training from
given weights; training from scratch; given weights that are only measured."""


class Planned(Protocol):
    """The part of an experiment's `Plan` that a ledger needs; a protocol, so that reports do not import that class."""

    @property
    def all(self) -> tuple[RunConfig, ...]:
        """The runs of the table and the runs that they start from."""

    def folder(self, config: RunConfig) -> RunFolder:
        """Returns the folder of a run."""


@dataclass(frozen=True)
class Entry:
    """One finished run: its id, its stage, its model, and the content of `cost.json`, or None without that file."""

    run: str
    stage: str
    model: str
    cost: Mapping[str, Any] | None

    def __getitem__(self, name: str) -> Any:
        return None if self.cost is None else self.cost.get(name)


def stages(runs: Iterable[RunConfig]) -> dict[str, str]:
    """Returns the stage of each run, by its id, as one of `STAGES`."""
    given = {run_id(run): run for run in runs}
    upstream = {run.weights_run for run in given.values()}
    searched = {name for run in given.values() for name in run.lr_from.split()}
    return {name: _stage(run, name in upstream, name in searched) for name, run in given.items()}


def _stage(run: RunConfig, upstream: bool, searched: bool) -> str:
    if run.budget == "none":
        return "measuring"
    if searched and not upstream:
        return "search"
    if upstream or run.objective != "supervised":
        return "pre-training"
    return "fine-tuning" if run.weights or run.pretraining else "training"


def entries(planned: Planned) -> list[Entry]:
    """Returns an entry for each finished run of a plan; a run comes after the runs that it starts from.

    Raises:
        UserError: if a `cost.json` cannot be read.
    """
    found = stages(planned.all)
    folders = {run_id(run): planned.folder(run) for run in planned.all}
    done = {name: folder for name, folder in folders.items() if folder.result() is not None}
    return [Entry(name, found[name], folder.config.model, read_cost(folder.path)) for name, folder in done.items()]


def read_cost(folder: Path) -> dict[str, Any] | None:
    """Returns the recorded cost of the run in a folder, or None for a run older than these records.

    Raises:
        UserError: if the file is not a record of a cost.
    """
    file = folder / COST_NAME
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        pass
    raise UserError(f'"{file}" is not a record of a cost: remove that file, and the ledger leaves this run out.')


def derived_costs(cost: Mapping[str, Any], table: Mapping[str, Device] | None = None) -> dict[str, float | None]:
    """Returns `utilisation` and `dollars` of a run, by the table of devices; an unknown number is None.

    Model-FLOPs utilisation is the rate of training FLOPs, without evaluation, over the peak rate of the devices. It is
    known only if the table has the peak rate of the arithmetic that the run used.
    """
    device = find_device(str(cost["device"]), devices() if table is None else table)
    if device is None:
        return {"utilisation": None, "dollars": None}
    seconds = cost["training_seconds"] * cost["devices"]
    same = device.arithmetic.split(" ")[0] == cost["precision"]
    rate = cost["training_flops"] / seconds if same and seconds > 0 and cost["training_flops"] else None
    return {
        "utilisation": None if rate is None else rate / device.peak,
        "dollars": None if device.price is None else device.price * cost["device_hours"],
    }


def upstream_flops(config: RunConfig, folder_of: Callable[[str], RunFolder]) -> int | None:
    """Returns the training FLOPs of the chain of runs that a run's first weights come from; without a chain 0.

    `folder_of` returns the folder of a run by its id. Weights from elsewhere count as 0, as their cost is not known.
    Returns None if a run of the chain is older than the records of costs.
    """
    total = 0
    while config.weights_run is not None:
        folder = folder_of(config.weights_run)
        flops = ((folder.result() or {}).get("cost") or {}).get("training_flops")
        if flops is None:
            return None
        total, config = total + int(flops), folder.config
    return total
