"""What this machine can do, and the arithmetic that is fastest on it.

On a CPU, bf16 pays only where the processor has it and with explicit attention (a softmax of a product): with the fused
kernel it is slower than fp32 there. So bf16 is chosen by a capability check and a short timing, once for each model and
output folder, and recorded; a resumed experiment keeps the choice, so that its table does not change.
"""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path
from typing import Any

from vision_repro.config import UserError
from vision_repro.store.runs import Lock, write_atomic

# Below this ratio of fp32 to bf16 time the gain is within the noise of a short timing.
WORTH_IT = 1.2


def cores() -> int:
    """Returns the number of processor cores this process may use, in a SLURM job not more than it was given."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    given = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return min(found, int(given)) if given.isdigit() and int(given) else found


def quiet_threads() -> None:
    """Stops idle OpenMP threads from spinning, which halts a machine that has another busy process.

    Works only before torch is imported.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    # Asks NVML and not the driver, so that a forked worker can still use the GPU.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")


def resolve_accelerator(wanted: str) -> str:
    """Returns `gpu` or `cpu`.

    Raises:
        UserError: if a GPU is asked for where there is none.
    """
    import torch

    found = torch.cuda.is_available()
    if wanted == "gpu" and not found:
        raise UserError("--accelerator=gpu: torch finds no GPU here; use --accelerator=cpu.")
    return "gpu" if found and wanted != "cpu" else "cpu"


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


def step_seconds(model: Any, images: Any, bf16: bool) -> float:
    """Returns the time of one forward and backward pass [s]."""
    import torch

    from vision_repro.models import use_explicit_attention
    from vision_repro.models.layers.outputs import WithAuxiliary

    use_explicit_attention(model, bf16)
    start = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        output = model(images)
        every = (output.logits, *output.auxiliary) if isinstance(output, WithAuxiliary) else (output,)
        loss: Any = torch.cat(every).float().square().mean()
    loss.backward()
    return time.perf_counter() - start


def time_bf16(model_name: str, image_size: int, classes: int, repeats: int = 6) -> float:
    """Returns the time of a training step in fp32 divided by that in bf16, on one thread of this CPU.

    The two take turns and the fastest of each counts, so that other work on the machine sways the ratio little.
    """
    import torch

    from vision_repro.models import build

    torch.set_num_threads(1)
    model = build(model_name, image_size=image_size, classes=classes)
    images = torch.zeros(64 if image_size <= 32 else 4, 3, image_size, image_size)
    pairs = [(step_seconds(model, images, False), step_seconds(model, images, True)) for _ in range(repeats)]
    return min(plain for plain, _ in pairs) / min(fast for _, fast in pairs)


class PrecisionBook:
    """The recorded choice of arithmetic for each device and model, one JSON file in the output folder."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def read(self) -> dict[str, dict[str, Any]]:
        """Returns the entries by key; none if the file is missing or is no JSON object."""
        try:
            found = json.loads(self.file.read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def add(self, key: str, entry: dict[str, Any]) -> dict[str, Any]:
        """Records an entry unless another process was first; returns the entry that stands."""
        with Lock(self.file.parent / "precision"):
            book = self.read()
            if key not in book:
                book[key] = entry
                write_atomic(self.file, json.dumps(book, indent=1, sort_keys=True) + "\n")
            return book[key]


def precision_key(model_name: str, image_size: int) -> str:
    """Returns the key of a choice: processor, model and image size."""
    return f"{processor()} | {model_name} | {image_size} px"


def choose(key: str, ratio: float | None) -> dict[str, Any]:
    """Returns the entry for a measured ratio fp32 / bf16 (`None`: the processor has no bf16)."""
    if ratio is None:
        return {"precision": "fp32", "why": "the processor has no bf16"}
    fast = ratio >= WORTH_IT
    return {"precision": "bf16" if fast else "fp32", "why": f"a step in fp32 took {ratio:.2f} times that in bf16"}
