"""The cost ledger: what the runs of an experiment took, by stage and model. Imports no torch.

What a run took stands in the `cost.json` of its folder. Money and utilisation follow from it and from the table of
devices as it is when the ledger is written (see `devices.py`). What is not known is None, and an empty cell, never 0;
a sum is known only if all its parts are.
"""

from __future__ import annotations

import csv
import io
import json
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision_repro.accounting.devices import Device, devices, matching
from vision_repro.config import RunConfig, UserError, run_id
from vision_repro.results import RunFolder

if TYPE_CHECKING:
    from vision_repro.experiment import Plan

COST_NAME, LEDGER_NAME = "cost.json", "ledger.csv"
STAGES = ("pre-training", "search", "fine-tuning", "training", "measuring")
"""Runs that others start from; of which a learning rate is chosen; from given weights; from scratch; of given weights
that are only measured."""
TOLERANCE = 0.01
"""Largest difference between the accountant's forward FLOPs and torch's counter, as a fraction, that is not told."""
ALL = "all"


@dataclass(frozen=True)
class Entry:
    """One finished run: its id, its stage, its model, and what `cost.json` says; None where there is none."""

    run: str
    stage: str
    model: str
    cost: Mapping[str, Any] | None

    def __getitem__(self, name: str) -> Any:
        return None if self.cost is None else self.cost.get(name)


@dataclass(frozen=True)
class Line:
    """A line of the ledger: the runs of one stage and model together.

    Hours are of the wall clock, `device_hours` times the devices and with `setup`; rates are over the time of training;
    memory [bytes] is the largest of any run, on one device; energy is in kWh.
    """

    stage: str
    model: str
    runs: int
    device: str
    images: int | None
    training_flops: int | None
    images_per_second: float | None
    utilisation: float | None
    training_hours: float | None
    evaluation_hours: float | None
    device_hours: float | None
    peak_memory: int | None
    energy: float | None
    dollars: float | None


def stages(runs: Iterable[RunConfig]) -> dict[str, str]:
    """Returns the stage of each run, by its id, as one of `STAGES`."""
    given = {run_id(run): run for run in runs}
    upstream = {run.weights_run for run in given.values()}
    searched = {name for run in given.values() for name in run.lr_from.split()}
    return {name: _stage(run, name in upstream, name in searched) for name, run in given.items()}


def _stage(run: RunConfig, upstream: bool, searched: bool) -> str:
    if run.policy == "none":
        return "measuring"
    if searched and not upstream:
        return "search"
    if upstream or run.objective != "supervised":
        return "pre-training"
    return "fine-tuning" if run.weights or run.start else "training"


def entries(planned: Plan) -> list[Entry]:
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


def lines(found: Sequence[Entry]) -> list[Line]:
    """Returns the ledger: a line for each stage and model, one for each stage of several models, and one for all."""
    table, listed = devices(), []
    used = [stage for stage in STAGES if any(entry.stage == stage for entry in found)]
    for stage in used:
        part = [entry for entry in found if entry.stage == stage]
        models = list(dict.fromkeys(entry.model for entry in part))
        listed += [_line(stage, name, [entry for entry in part if entry.model == name], table) for name in models]
        if len(models) > 1 and len(used) > 1:
            listed.append(_line(stage, ALL, part, table))
    return [*listed, _line(ALL, ALL, found, table)] if len(listed) > 1 else listed


def _line(stage: str, model: str, part: Sequence[Entry], table: Mapping[str, Device]) -> Line:
    def total(name: str) -> Any:
        return _sum(entry[name] for entry in part)

    derived = [priced(entry.cost, table) if entry.cost else {} for entry in part]
    seconds, images, energy = total("training_seconds"), total("images"), total("energy_joules")
    peaks = [entry["peak_memory_bytes"] for entry in part]
    return Line(
        stage=stage,
        model=model,
        runs=len(part),
        device="; ".join(dict.fromkeys(str(entry["device"]) for entry in part if entry["device"])),
        images=images,
        training_flops=total("training_flops"),
        images_per_second=images / seconds if images and seconds else None,
        utilisation=_mean_utilisation(part, derived),
        training_hours=_hours(seconds),
        evaluation_hours=_hours(total("evaluation_seconds")),
        device_hours=total("device_hours"),
        peak_memory=None if None in peaks else max(peaks),
        energy=None if energy is None else energy / 3.6e6,
        dollars=_sum(item.get("dollars") for item in derived),
    )


def _sum(values: Iterable[Any]) -> Any:
    known = list(values)
    return None if None in known else sum(known)


def _hours(seconds: float | None) -> float | None:
    return None if seconds is None else seconds / 3600


def _mean_utilisation(part: Sequence[Entry], derived: Sequence[Mapping[str, float | None]]) -> float | None:
    """Returns the mean over device-time of the runs that trained, None unless it is known for all of them."""
    trained = [(entry, item.get("utilisation")) for entry, item in zip(part, derived, strict=True) if entry["images"] != 0]
    weights = [entry["training_seconds"] * entry["devices"] for entry, value in trained if value is not None]
    values = [value for _, value in trained if value is not None]
    if not values or len(values) < len(trained):
        return None
    return float(sum(value * weight for value, weight in zip(values, weights, strict=True)) / sum(weights))


def to_csv(listed: Sequence[Line]) -> str:
    """Returns the ledger as CSV: plain units, all digits, an empty cell where nothing is known."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [item.name for item in fields(Line)], lineterminator="\n")
    writer.writeheader()
    for line in listed:
        writer.writerow({name: "" if value is None else value for name, value in asdict(line).items()})
    return text.getvalue()


def read(file: Path) -> list[Line]:
    """Returns the ledger of a file.

    Raises:
        UserError: if it is no ledger.
    """
    kinds = typing.get_type_hints(Line)
    try:
        with file.open(newline="", encoding="utf-8") as text:
            return [Line(**{name: _parsed(cell, kinds[name]) for name, cell in row.items()}) for row in csv.DictReader(text)]
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError):
        raise UserError(f'"{file}" is no ledger: was it cut off?') from None


def _parsed(cell: str, kind: Any) -> Any:
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    return None if cell == "" and types.NoneType in options else options[0](cell)
