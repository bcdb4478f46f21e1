"""Energy that the device itself tells [J]: NVML for NVIDIA GPUs, RAPL for processors; None where nothing tells it.

Neither is the whole machine: NVML is the board of a GPU, RAPL the processor packages without memory and power supply.
Both count everything that runs on the device in that time, also for another process.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

POWERCAP = Path("/sys/class/powercap")
"""Where Linux has RAPL's counters; since 2020 only root may read them on most systems."""


class Counter(Protocol):
    """Something that tells how much energy was used since it was made."""

    name: str

    def joules(self) -> float | None:
        """Returns the energy since this counter was made [J], or None if it cannot be read any more."""


class Rapl:
    """The packages of a CPU, of whose energy a run is charged `share` in (0, 1].

    Each counter starts again at 0 above its own range, after some minutes of full load on large processors; so it must
    be read at least once in that time, which `joules` does.
    """

    name = "RAPL"

    def __init__(self, root: Path = POWERCAP, share: float = 1.0) -> None:
        """Takes the folder of the counters.

        Raises:
            OSError: if there is none, or it cannot be read.
            ValueError: if one holds no number.
        """
        self.share, self.microjoules = share, 0
        self.zones = {zone: _number(zone / "max_energy_range_uj") for zone in _packages(root)}
        if not self.zones:
            raise FileNotFoundError(root)
        self.last = {zone: _number(zone / "energy_uj") for zone in self.zones}

    def joules(self) -> float | None:
        """Returns the energy since this counter was made [J], or None if it cannot be read any more."""
        try:
            now = {zone: _number(zone / "energy_uj") for zone in self.zones}
        except (OSError, ValueError):
            return None
        for zone, value in now.items():
            # The counter shows 0 to its range, which is one value more.
            used = value - self.last[zone]
            self.microjoules += used if used >= 0 else used + self.zones[zone] + 1
        self.last = now
        return self.microjoules * self.share / 1e6


def _packages(root: Path) -> list[Path]:
    """Returns the zones of whole packages: a package's parts are in it, and `psys` contains the packages."""
    return [file.parent for file in sorted(root.glob("*/name")) if file.read_text().strip().startswith("package")]


def _number(file: Path) -> int:
    return int(file.read_text())


class Nvml:
    """NVIDIA GPUs, by the energy counter that each has since Volta; `library` is NVML as ctypes loads it."""

    name = "NVML"

    def __init__(self, uuids: Sequence[str], library: Any = None) -> None:
        """Takes the UUIDs of the GPUs, as `GPU-...`: NVML numbers them otherwise than CUDA does.

        Raises:
            OSError: if NVML is missing, does not know a GPU, or has no energy counter for it.
        """
        self.library = ctypes.CDLL("libnvidia-ml.so.1") if library is None else library
        _succeed(self.library.nvmlInit_v2())
        self.handles = [ctypes.c_void_p() for _ in uuids]
        for uuid, handle in zip(uuids, self.handles, strict=True):
            _succeed(self.library.nvmlDeviceGetHandleByUUID(uuid.encode(), ctypes.byref(handle)))
        self.start = self._millijoules()

    def _millijoules(self) -> int:
        total, value = 0, ctypes.c_ulonglong()
        for handle in self.handles:
            _succeed(self.library.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(value)))
            total += value.value
        return total

    def joules(self) -> float | None:
        """Returns the energy since this counter was made [J], or None if it cannot be read any more."""
        try:
            return (self._millijoules() - self.start) / 1e3
        except OSError:
            return None


def _succeed(code: int) -> None:
    if code:
        raise OSError(code, "NVML")


def counter(accelerator: str, devices: int) -> Counter | None:
    """Returns the energy counter for a run on `devices` devices of this machine, or None where nothing tells it.

    On GPUs they are the first `devices` that this process sees. On a CPU a run is charged the share of the cores that
    its threads take, since its neighbours run on the same package.
    """
    import torch

    try:
        if accelerator == "gpu":
            found = [torch.cuda.get_device_properties(index) for index in range(devices)]
            return Nvml([f"GPU-{item.uuid}" for item in found])
        return Rapl(share=min(1.0, torch.get_num_threads() * devices / (os.cpu_count() or 1)))
    except (OSError, ValueError, AttributeError, AssertionError, RuntimeError):
        return None
