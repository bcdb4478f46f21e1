"""The one rule for the arithmetic of a run: fp32 on a CPU, bf16 on a GPU that has it.

It is a rule and not a timing, so that the same command gives the same numbers on every machine. On a CPU, bf16 is used
only on request. It is faster only if the processor supports it, and with explicit attention: the fused kernel is
slower.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from vision_repro.config import RunConfig


def automatic(accelerator: str) -> str:
    """Returns the meaning of `--precision=auto` on a kind of device, `cpu` or `gpu`.

    If this machine has no GPU, as when it submits jobs to a cluster, the GPU is assumed to have bf16.
    """
    if accelerator != "gpu":
        return "fp32"
    import torch  # takes seconds, and is not needed on a CPU

    return "bf16" if not torch.cuda.is_available() or torch.cuda.is_bf16_supported() else "fp32"


def resolved(config: RunConfig, accelerator: str) -> RunConfig:
    """Returns the config with `auto` replaced by its meaning."""
    return replace(config, precision=automatic(accelerator)) if config.precision == "auto" else config


def of_trainer(precision: str) -> Literal["bf16-mixed", "32-true"]:
    """Returns Lightning's name of `fp32` or `bf16`."""
    return "bf16-mixed" if precision == "bf16" else "32-true"


def needs_explicit_attention(precision: str, accelerator: str) -> bool:
    """Returns whether attention computes its softmax matrix: in bf16 on a CPU, where the fused kernel is slower."""
    return precision == "bf16" and accelerator != "gpu"
