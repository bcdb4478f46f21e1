"""Energy counters, read from folders and libraries that are made up here."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import pytest

from vision_repro.accounting import energy


def powercap(root: Path, **zones: tuple[str, int]) -> Path:
    """A folder as Linux has it: zone -> (name, reading [uJ]), each with a range of 1000 uJ."""
    for zone, (name, value) in zones.items():
        (root / zone).mkdir(parents=True)
        (root / zone / "name").write_text(f"{name}\n")
        (root / zone / "max_energy_range_uj").write_text("999\n")
        (root / zone / "energy_uj").write_text(f"{value}\n")
    return root


def show(root: Path, zone: str, value: int) -> None:
    (root / zone / "energy_uj").write_text(f"{value}\n")


def test_packages_are_added_and_what_is_in_them_or_holds_them_is_not(tmp_path: Path) -> None:
    root = powercap(tmp_path, a=("package-0", 100), b=("package-1", 0), c=("core", 5), d=("psys", 7), e=("dram", 1))
    counter = energy.Rapl(root)
    for zone, value in {"a": 350, "b": 40, "c": 900, "d": 900, "e": 900}.items():
        show(root, zone, value)
    assert counter.joules() == pytest.approx(290e-6)


def test_a_counter_that_starts_again_at_0(tmp_path: Path) -> None:
    root = powercap(tmp_path, a=("package-0", 900))
    counter = energy.Rapl(root, share=0.5)
    used = []
    for value in (999, 0, 600, 599):  # 99, 1, 600 and, once around, 999 more
        show(root, "a", value)
        used.append(counter.joules())
    assert used == pytest.approx([49.5e-6, 50e-6, 350e-6, 849.5e-6])


def test_a_counter_that_goes_away_is_no_0(tmp_path: Path) -> None:
    root = powercap(tmp_path, a=("package-0", 1))
    counter = energy.Rapl(root)
    (root / "a" / "energy_uj").unlink()
    assert counter.joules() is None


@pytest.mark.parametrize("content", ["", "many"])
def test_without_a_readable_counter_nothing_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    with pytest.raises(FileNotFoundError):
        energy.Rapl(tmp_path)
    root = powercap(tmp_path, a=("package-0", 1))
    (root / "a" / "energy_uj").write_text(content)
    monkeypatch.setattr(energy.Rapl.__init__, "__defaults__", (root, 1.0))
    assert energy.counter("cpu", 1) is None


class Library:
    """NVML with two GPUs, whose counters go on by 1000 mJ and 3000 mJ with each reading."""

    used = {b"GPU-a": 5_000, b"GPU-b": 70_000}  # noqa: RUF012

    def __init__(self) -> None:
        self.names: list[bytes] = []
        self.broken = False

    def nvmlInit_v2(self) -> int:  # noqa: N802
        return 0

    def nvmlDeviceGetHandleByUUID(self, uuid: bytes, handle: Any) -> int:  # noqa: N802
        if uuid not in self.used:
            return 6
        self.names.append(uuid)
        ctypes.cast(handle, ctypes.POINTER(ctypes.c_void_p))[0] = len(self.names)
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: Any, value: Any) -> int:  # noqa: N802
        if self.broken:
            return 15
        name = self.names[handle.value - 1]
        self.used = {**self.used, name: self.used[name] + {b"GPU-a": 1000, b"GPU-b": 3000}[name]}
        ctypes.cast(value, ctypes.POINTER(ctypes.c_ulonglong))[0] = self.used[name]
        return 0


def test_the_energy_of_several_gpus() -> None:
    library = Library()
    counter = energy.Nvml(["GPU-a", "GPU-b"], library)
    assert [counter.joules(), counter.joules()] == [4.0, 8.0]
    library.broken = True
    assert counter.joules() is None
    with pytest.raises(OSError, match="NVML"):
        energy.Nvml(["GPU-c"], library)
