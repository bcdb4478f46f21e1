"""Device-hours, money and energy of a run, from its FLOPs and a given utilisation. Imports no torch.

Peak rates, watts and prices are in `papers/printed/devices.csv`, one device a line, with its sources. Edit that file,
or set `VISION_REPRO_PRICES` to a file of your own with the same columns: its lines replace lines of the same device and
add new devices. A measured device gets the line whose name is part of the device's own name, word by word: `A100`
matches "NVIDIA A100-SXM4-80GB" and not "NVIDIA A1000".

`confidence` of a number: `verified` (read at the source), `quoted` (read where someone quotes the source) or `memory`
(not checked yet; tables mark it with `*`).
"""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vision_repro.config import UserError, nearest
from vision_repro.papers.tables import paper_table

SHIPPED = "devices"
"""Name of the shipped table of devices."""
PRICES_VARIABLE = "VISION_REPRO_PRICES"
"""Environment variable with the path of a user's own table of devices, with the same columns."""


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
    """Cost of a number of FLOPs on one kind of device: device-hours, dollars and kilowatt-hours.

    Energy is that of the device alone, at its stated watts: without host, network, cooling and idle time.
    """

    device: Device
    utilisation: float
    hours: float

    @property
    def days(self) -> float:
        """Device-days; on a TPUv3 core these are the core-days of ViT's Table 2."""
        return self.hours / 24

    @property
    def dollars(self) -> float | None:
        """Price of the device-hours [dollars], or None where the table has no price."""
        return None if self.device.price is None else self.hours * self.device.price

    @property
    def energy(self) -> float | None:
        """Energy [kWh], or None where the table has no watts."""
        return None if self.device.watts is None else self.hours * self.device.watts / 1000


def devices() -> dict[str, Device]:
    """Returns the devices of the shipped table and of the user's own file, by name; the user's lines win.

    Raises:
        UserError: if the user's file cannot be read, or has a line without a name or a peak rate, or with a word in
            place of a number.
    """
    own = os.environ.get(PRICES_VARIABLE)
    return {**_parsed(paper_table(SHIPPED), SHIPPED), **(read_prices(Path(own)) if own else {})}


def read_prices(file: Path) -> dict[str, Device]:
    """Returns the devices of a user's own file, by name; raises UserError as `devices` does."""
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'"{file}" cannot be read ({error}): expected a table of devices.') from None
    return _parsed(rows, str(file))


def _parsed(rows: Sequence[Mapping[str, str]], source: str) -> dict[str, Device]:
    found = {}
    for number, row in enumerate(rows, start=2):  # line 1 is the head
        try:
            device = _device(row)
        except (AttributeError, KeyError, TypeError, ValueError):
            raise UserError(
                f'"{source}", line {number}: expected a device, its peak_flops above 0, and watts and '
                "dollars_per_hour, each a number above 0 or empty."
            ) from None
        found[device.name] = device
    return found


def _device(row: Mapping[str, str]) -> Device:
    """Returns the device of a line; raises AttributeError, KeyError, TypeError or ValueError for an invalid line."""
    watts, price = (float(row[key]) if row[key].strip() else None for key in ("watts", "dollars_per_hour"))
    peak = float(row["peak_flops"])
    if not row["device"] or not all(0 < value < math.inf for value in (peak, watts, price) if value is not None):
        raise ValueError(row)
    texts = (row[key] or "" for key in ("source", "confidence", "price_source", "price_confidence"))
    return Device(row["device"], peak, row["arithmetic"], watts, price, *texts)


def find_device(name: str, known: Mapping[str, Device]) -> Device | None:
    """Returns the device whose name is part of the system's `name` word by word; of several the longest, or None."""
    words = f" {_words(name)} "
    found = [device for device in known.values() if f" {_words(device.name)} " in words]
    return max(found, key=lambda device: len(device.name), default=None)


def _words(name: str) -> str:
    """Returns the words of a name in lower case: letters and digits only, separated by blanks."""
    return " ".join(re.findall(r"[a-z0-9]+", name.lower()))


def plan_cost(flops: float, device: str, utilisation: float) -> Cost:
    """Returns the cost of `flops` on a device of the table, at the fraction `utilisation` in (0, 1] of its peak rate.

    Raises:
        UserError: if the device is unknown or the utilisation is outside (0, 1].
    """
    known = devices()
    if device not in known:
        raise UserError(f'Device "{device}" is unknown: expected one of {", ".join(known)}.{nearest(device, known)}')
    if not 0 < utilisation <= 1:
        raise UserError(f"A utilisation of {utilisation} is out of range: expected a fraction above 0 and at most 1.")
    return Cost(known[device], utilisation, flops / (known[device].peak * utilisation) / 3600)
