"""What each run of an experiment took: its stage, and the `cost.json` of its folder. Imports no torch.

Money and utilisation follow from that and from the table of devices as it is when the ledger is written (see
`devices.py`). What is not known is None, never 0.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from vision_repro.accounting.devices import Device, devices, matching
from vision_repro.config import RunConfig, UserError, run_id
from vision_repro.store.runs import RunFolder

COST_NAME = "cost.json"
STAGES = ("pre-training", "search", "fine-tuning", "training", "measuring")
"""Runs that others start from; of which a learning rate is chosen; from given weights; from scratch; of given weights
that are only measured."""


class Planned(Protocol):
    """What a ledger needs of an experiment's `Plan`; not that class, so that reports need none of what it needs."""

    @property
    def all(self) -> tuple[RunConfig, ...]:
        """The runs of the table and those upstream of them."""

    def folder(self, config: RunConfig) -> RunFolder:
        """Returns the folder of a run."""


@dataclass(frozen=True)
class Entry:
    """One finished run: its id, its stage, its model, and what `cost.json` says; None where there is none."""

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
    """Returns an entry for each finished run of a plan, those upstream first.

    Raises:
        UserError: if a `cost.json` cannot be read.
    """
    found = stages(planned.all)
    folders = {run_id(run): planned.folder(run) for run in planned.all}
    done = {name: folder for name, folder in folders.items() if folder.result() is not None}
    return [Entry(name, found[name], folder.config.model, read_cost(folder.path)) for name, folder in done.items()]


def read_cost(folder: Path) -> dict[str, Any] | None:
    """Returns what the run of a folder took, None for one that was done before costs were recorded.

    Raises:
        UserError: if the file that stands is no record of a cost.
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
    raise UserError(f'"{file}" is no record of a cost: remove that file, and the ledger goes without it.')


def priced(cost: Mapping[str, Any], table: Mapping[str, Device] | None = None) -> dict[str, float | None]:
    """Returns what follows for a run from the table of devices: `utilisation` and `dollars`, None where not known.

    Model-FLOPs utilisation is the rate of training FLOPs, without evaluation, over the peak rate of the devices; the
    peak must be of the arithmetic that the run used.
    """
    device = matching(str(cost["device"]), devices() if table is None else table)
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
    """Returns the training FLOPs of everything upstream of the weights that a run starts from.

    `folder_of` returns the folder of a run by its id. What weights from elsewhere took is not known and not counted.
    None if a run of the chain was done before costs were recorded.
    """
    total = 0
    while config.weights_run is not None:
        folder = folder_of(config.weights_run)
        flops = ((folder.result() or {}).get("cost") or {}).get("training_flops")
        if flops is None:
            return None
        total, config = total + int(flops), folder.config
    return total
