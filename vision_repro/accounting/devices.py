"""What a run costs in device-hours, money and energy, from its FLOPs and a stated utilisation. Imports no torch.

Peak rates, watts and prices stand in `published/devices.csv`, one device a line with its sources; edit them there, or
name a file with lines of your own in `VISION_REPRO_PRICES`: they go over those and beside them. A measured device gets
the line whose name's words are in its own name: `A100` is "NVIDIA A100-SXM4-80GB", and not "NVIDIA A1000".
Their `confidence`: `verified` (read at the source), `quoted` (read where someone quotes it), `memory` (to be checked,
and marked by `*` wherever it is shown).
"""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vision_repro.config import UserError, nearest
from vision_repro.papers.tables import FOLDER

DEVICES = FOLDER / "devices.csv"
OWN = "VISION_REPRO_PRICES"
"""Names, in the environment, a file of the same columns with devices of one's own."""


@dataclass(frozen=True)
class Device:
    """One accelerator: peak rate of its matrix units [FLOP/s], power [watts] and price [dollars an hour], if known."""

    name: str
    peak: float
    arithmetic: str
    watts: float | None
    price: float | None
    source: str
    confidence: str
    price_source: str
    price_confidence: str


@dataclass(frozen=True)
class Cost:
    """What a number of FLOPs costs on one kind of device: `hours` of one device, dollars and kilowatt-hours.

    Energy is that of the device at its stated watts alone: no host, network or cooling, and no idle time.
    """

    device: Device
    utilisation: float
    hours: float

    @property
    def days(self) -> float:
        """Device-days; for a TPUv3-core the core-days of ViT's Table 2."""
        return self.hours / 24

    @property
    def dollars(self) -> float | None:
        """Price of the device-hours [dollars], or None where the table has no price."""
        return None if self.device.price is None else self.hours * self.device.price

    @property
    def energy(self) -> float | None:
        """Energy [kWh], or None where the table has no watts."""
        return None if self.device.watts is None else self.hours * self.device.watts / 1000


def devices(file: Path | None = None) -> dict[str, Device]:
    """Returns the devices of a file, by name; without one those of the table, and of the file that `OWN` names.

    Raises:
        UserError: if the file cannot be read, or a line of it has no name, no peak rate or something that is no number.
    """
    if file is None:
        own = os.environ.get(OWN)
        return {**devices(DEVICES), **(devices(Path(own)) if own else {})}
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'"{file}" cannot be read ({error}): expected a table of devices.') from None
    found = {}
    for number, row in enumerate(rows, start=2):
        try:
            device = _device(row)
        except (AttributeError, KeyError, TypeError, ValueError):
            raise UserError(
                f'"{file}", line {number}: expected a device, its peak_flops above 0, and watts and dollars_per_hour, '
                "each a number above 0 or empty."
            ) from None
        found[device.name] = device
    return found


def _device(row: dict[str, str]) -> Device:
    """Returns the device of a line; raises AttributeError, KeyError, TypeError or ValueError if it is none."""
    watts, price = (float(row[key]) if row[key].strip() else None for key in ("watts", "dollars_per_hour"))
    peak = float(row["peak_flops"])
    if not row["device"] or not all(0 < value < math.inf for value in (peak, watts, price) if value is not None):
        raise ValueError(row)
    texts = (row[key] or "" for key in ("source", "confidence", "price_source", "price_confidence"))
    return Device(row["device"], peak, row["arithmetic"], watts, price, *texts)


def matching(name: str, known: Mapping[str, Device]) -> Device | None:
    """Returns the device that a system calls `name`: the one with the most words of it in a row, or None."""
    words = f" {_words(name)} "
    found = [device for device in known.values() if f" {_words(device.name)} " in words]
    return max(found, key=lambda device: len(device.name), default=None)


def _words(name: str) -> str:
    """Returns the words of a name, letters and digits alone, in lower case."""
    return " ".join(re.findall(r"[a-z0-9]+", name.lower()))


def plan_cost(flops: float, device: str, utilisation: float) -> Cost:
    """Returns the cost of `flops` on a device of the table, at a share `utilisation` in (0, 1] of its peak rate.

    Raises:
        UserError: if the device is unknown or the utilisation is no such share.
    """
    known = devices()
    if device not in known:
        raise UserError(f'Device "{device}" is unknown: expected one of {", ".join(known)}.{nearest(device, known)}')
    if not 0 < utilisation <= 1:
        raise UserError(f"A utilisation of {utilisation} is out of range: expected a fraction above 0 and at most 1.")
    return Cost(known[device], utilisation, flops / (known[device].peak * utilisation) / 3600)
