"""Finds out what this machine has: cores, processor, GPUs."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from vision_repro.config import UserError


def cores() -> int:
    """Returns the number of processor cores that this process may use; in a SLURM job at most those of the job."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    given = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return min(found, int(given)) if given.isdigit() and int(given) else found


def quiet_threads() -> None:
    """Stops idle OpenMP threads from spinning, which slows down other processes severely.

    Has an effect only before torch is imported.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    # torch then asks NVML instead of the driver, so that a forked worker can still use the GPU.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")


def resolve_accelerator(wanted: str) -> str:
    """Returns `gpu` or `cpu`.

    Raises:
        UserError: if `wanted` is `gpu` and there is no GPU.
    """
    found = wanted != "cpu" and _may_have_gpu() and _torch_finds_gpu()
    if wanted == "gpu" and not found:
        raise UserError("--accelerator=gpu: torch finds no GPU here; use --accelerator=cpu.")
    return "gpu" if found else "cpu"


def _may_have_gpu() -> bool:
    """Returns whether this machine has the driver of a GPU; without one, the slow import of torch is not needed."""
    return any(Path(name).exists() for name in ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd"))


def _torch_finds_gpu() -> bool:
    import torch  # takes seconds

    return bool(torch.cuda.is_available())


def processor() -> str:
    """Returns the processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def cpu_has_bf16() -> bool:
    """Returns whether the processor multiplies in bf16 (AVX-512 BF16 or AMX)."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
