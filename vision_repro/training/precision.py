"""The one rule for the arithmetic of a run: fp32 on a CPU, bf16 on a GPU that has it.

A rule and not a timing, so that the same command gives the same numbers on every machine. On a CPU, bf16 is used where
it is asked for; it pays only where the processor has it, and with explicit attention: the fused kernel is slower there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from vision_repro.config import RunConfig


def automatic(accelerator: str) -> str:
    """Returns what `--precision=auto` stands for on a kind of device, `cpu` or `gpu`.

    A GPU that is not in this machine, as in the jobs of a cluster, is taken to have bf16.
    """
    if accelerator != "gpu":
        return "fp32"
    import torch  # a CPU needs no answer from torch, whose import takes seconds

    return "bf16" if not torch.cuda.is_available() or torch.cuda.is_bf16_supported() else "fp32"


def resolved(config: RunConfig, accelerator: str) -> RunConfig:
    """Returns the config with `auto` replaced by the word that it stands for."""
    return replace(config, precision=automatic(accelerator)) if config.precision == "auto" else config


def of_trainer(precision: str) -> Literal["bf16-mixed", "32-true"]:
    """Returns Lightning's word for `fp32` or `bf16`."""
    return "bf16-mixed" if precision == "bf16" else "32-true"


def needs_explicit_attention(precision: str, accelerator: str) -> bool:
    """Returns whether attention builds its softmax matrix: in bf16 on a CPU, where the fused kernel is slower."""
    return precision == "bf16" and accelerator != "gpu"
