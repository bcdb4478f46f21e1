"""What a set of runs will cost, before the first one starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from vision_repro.accounting.architectures import counted
from vision_repro.accounting.devices import Cost, plan_cost
from vision_repro.accounting.flops import FLOPS_PER_MAC, training_flops
from vision_repro.config import RunConfig

DEVICE, UTILISATION = "A100", 0.4
"""Assumptions, printed with the numbers: the device, and the share of its peak rate that training reaches."""


def run_flops(config: RunConfig, forward: int) -> int:
    """Returns the training FLOPs of a run: 3 x forward x images (ViT, Table 6; multiply-add = 2)."""
    return training_flops(forward, config.total_steps * config.global_batch)


def estimate(runs: Sequence[RunConfig], planned: int, device: str = DEVICE, utilisation: float = UTILISATION) -> str:
    """Returns a table of the runs to do, a line a model, with FLOPs, device-hours, money and energy.

    Raises:
        UserError: if the device is not in `published/devices.csv` or the utilisation is not in (0, 1].
    """
    total, count, images = Counter[str](), Counter[str](), Counter[str]()
    for run in runs:
        forward = FLOPS_PER_MAC * counted(run.model, run.image_size).macs()
        count[run.model] += 1
        images[run.model] += run.total_steps * run.global_batch
        total[run.model] += run_flops(run, forward)
    lines = [
        f"{len(runs)} of {planned} runs to do",
        f"{'model':<28} {'runs':>5} {'images':>15} {'training FLOPs':>15} {'hours':>10}",
    ]
    for name in count:
        hours = plan_cost(total[name], device, utilisation).hours
        lines.append(f"{name:<28} {count[name]:>5} {images[name]:>15,} {total[name]:>15.3g} {hours:>10.2f}")
    whole = plan_cost(sum(total.values()), device, utilisation)
    flops = sum(total.values())
    lines.append(f"{'all':<28} {len(runs):>5} {sum(images.values()):>15,} {flops:>15.3g} {whole.hours:>10.2f}")
    lines.append(
        f"FLOPs: multiply-add = 2, training = 3 x forward (ViT, Table 6). Hours: one {device} at {utilisation:.0%} of "
        f"{whole.device.peak / 1e12:g} TFLOP/s; evaluation and data loading are not counted."
    )
    lines.append(_money(whole))
    return "\n".join(lines)


def _money(cost: Cost) -> str:
    """Returns what the hours cost in dollars and energy, as far as the table of devices knows."""
    device, parts = cost.device, []
    if cost.dollars is not None:
        parts.append(f"{cost.dollars:.2f} dollars ({device.price_source}; {device.price_confidence})")
    if cost.energy is not None:
        parts.append(f"{cost.energy:.2f} kWh (the device alone at {device.watts:g} W)")
    return f"Cost: {', '.join(parts) or 'not known for this device'}."
