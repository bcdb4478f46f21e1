"""Energy counters of devices [J]: NVML for NVIDIA GPUs, RAPL for processors; None where there is no counter.

Neither counts the whole machine: NVML counts the board of a GPU, RAPL the processor packages without memory and power
supply. Both also count the work of other processes on the device.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

POWERCAP = Path("/sys/class/powercap")
"""Folder of RAPL's counters on Linux; since 2020 most systems let only root read them."""


class Counter(Protocol):
    """A counter of the energy used since its construction."""

    name: str

    def joules(self) -> float | None:
        """Returns the energy since construction [J], or None if the counter cannot be read any more."""


class Rapl:
    """The packages of a CPU; a run is charged the fraction `share` in (0, 1] of their energy.

    Each counter wraps to 0 above its own range, after some minutes of full load on a large processor. Call `joules` at
    least once in that time, or a wrap is missed.
    """

    name = "RAPL"

    def __init__(self, root: Path = POWERCAP, share: float = 1.0) -> None:
        """Takes the folder of the counters.

        Raises:
            OSError: if there is no counter, or it cannot be read.
            ValueError: if a counter does not hold a number.
        """
        self.share, self.microjoules = share, 0
        self.zones = {zone: _number(zone / "max_energy_range_uj") for zone in _packages(root)}
        if not self.zones:
            raise FileNotFoundError(root)
        self.last = {zone: _number(zone / "energy_uj") for zone in self.zones}

    def joules(self) -> float | None:
        """Returns the energy since construction [J], or None if the counter cannot be read any more."""
        try:
            now = {zone: _number(zone / "energy_uj") for zone in self.zones}
        except (OSError, ValueError):
            return None
        for zone, value in now.items():
            # A counter with range R takes the R + 1 values 0 to R.
            used = value - self.last[zone]
            self.microjoules += used if used >= 0 else used + self.zones[zone] + 1
        self.last = now
        return self.microjoules * self.share / 1e6


def _packages(root: Path) -> list[Path]:
    """Returns the zones of whole packages; the zones of their parts, and `psys`, would count energy twice."""
    return [file.parent for file in sorted(root.glob("*/name")) if file.read_text().strip().startswith("package")]


def _number(file: Path) -> int:
    return int(file.read_text())


class Nvml:
    """NVIDIA GPUs, by the energy counter that each GPU has since Volta; `library` is NVML, loaded by ctypes."""

    name = "NVML"

    def __init__(self, uuids: Sequence[str], library: Any = None) -> None:
        """Takes the UUIDs of the GPUs, as `GPU-...`; their numbers differ between NVML and CUDA.

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
        """Returns the energy since construction [J], or None if the counter cannot be read any more."""
        try:
            return (self._millijoules() - self.start) / 1e3
        except OSError:
            return None


def _succeed(code: int) -> None:
    if code:
        raise OSError(code, "NVML")


def counter(accelerator: str, devices: int) -> Counter | None:
    """Returns the energy counter for a run on `devices` devices of this machine, or None if there is none.

    On GPUs it counts the first `devices` GPUs that this process sees. On a CPU it charges the run the fraction of the
    cores that its threads use, since other runs share the package.
    """
    # Imported here for start-up time: torch takes long to import.
    import torch

    try:
        if accelerator == "gpu":
            found = [torch.cuda.get_device_properties(index) for index in range(devices)]
            return Nvml([f"GPU-{item.uuid}" for item in found])
        return Rapl(share=min(1.0, torch.get_num_threads() * devices / (os.cpu_count() or 1)))
    except (OSError, ValueError, AttributeError, AssertionError, RuntimeError):
        return None
