"""The cost ledger: the costs of an experiment's runs, summed by stage and model. Imports no torch.

An unknown number is None and an empty cell, never 0; a sum is known only if all its terms are known.
"""

from __future__ import annotations

import csv
import io
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from vision_repro.accounting.devices import Device, devices
from vision_repro.accounting.ledger import STAGES, Entry, derived_costs
from vision_repro.config import UserError

LEDGER_NAME = "ledger.csv"
ALL = "all"


@dataclass(frozen=True)
class Line:
    """A line of the ledger: the sum over the runs of one stage and model.

    Hours are wall-clock hours. `device_hours` include setup and are multiplied by the number of devices. Rates are per
    second of training. `peak_memory` [bytes] is the largest of all runs, on one device. `energy` is in kWh.
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

    derived = [derived_costs(entry.cost, table) if entry.cost else {} for entry in part]
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
    """Returns the mean utilisation of the runs that trained, weighted by device-time; None if one is unknown."""
    trained = [
        (entry, item.get("utilisation")) for entry, item in zip(part, derived, strict=True) if entry["images"] != 0
    ]
    weights = [entry["training_seconds"] * entry["devices"] for entry, value in trained if value is not None]
    values = [value for _, value in trained if value is not None]
    if not values or len(values) < len(trained):
        return None
    return float(sum(value * weight for value, weight in zip(values, weights, strict=True)) / sum(weights))


def to_csv(listed: Sequence[Line]) -> str:
    """Returns the ledger as CSV: plain units, all digits, an empty cell for an unknown number."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [item.name for item in fields(Line)], lineterminator="\n")
    writer.writeheader()
    for line in listed:
        writer.writerow({name: "" if value is None else value for name, value in asdict(line).items()})
    return text.getvalue()


def read(file: Path) -> list[Line]:
    """Returns the lines of a ledger file.

    Raises:
        UserError: if the file is not a ledger.
    """
    kinds = typing.get_type_hints(Line)
    try:
        with file.open(newline="", encoding="utf-8") as text:
            return [
                Line(**{name: _parsed(cell, kinds[name]) for name, cell in row.items()}) for row in csv.DictReader(text)
            ]
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError):
        raise UserError(f'"{file}" is not a ledger: was it cut off?') from None


def _parsed(cell: str, kind: Any) -> Any:
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    return None if cell == "" and types.NoneType in options else options[0](cell)
