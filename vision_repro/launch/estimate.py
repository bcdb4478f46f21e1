"""Estimates the cost of a set of runs before the first one starts."""

from __future__ import annotations

from collections.abc import Sequence

from vision_repro.accounting.devices import Cost, plan_cost
from vision_repro.accounting.flops import training_flops
from vision_repro.accounting.ledger import STAGES, stages
from vision_repro.config import RunConfig, run_id
from vision_repro.tasks.forward_flops import forward_flops

DEVICE, UTILISATION = "A100", 0.4
"""Assumptions that are printed with the numbers: the device, and the share of its peak rate that training reaches."""


def run_flops(config: RunConfig, forward: int) -> int:
    """Returns the training FLOPs of a run: 3 x forward x images (ViT, Table 6; multiply-add = 2)."""
    return training_flops(forward, config.total_steps * config.global_batch)


def estimate(runs: Sequence[RunConfig], planned: int, device: str = DEVICE, utilisation: float = UTILISATION) -> str:
    """Returns a table of the runs to do, with one line per model: FLOPs, device-hours, money and energy.

    If the runs have several stages, such as pre-training and fine-tuning, there is one line per stage and model.

    Raises:
        UserError: if the device is not in the table of devices or the utilisation is not in (0, 1].
    """
    stage_of = stages(runs)
    groups: dict[tuple[str, str], list[RunConfig]] = {}
    for run in sorted(runs, key=lambda run: STAGES.index(stage_of[run_id(run)])):
        groups.setdefault((stage_of[run_id(run)], run.model), []).append(run)
    staged = len({stage for stage, _ in groups}) > 1
    indent = 14 if staged else 0
    lines = [
        f"{len(runs)} of {planned} runs to do",
        f"{'stage':<14}"[:indent] + f"{'model':<28} {'runs':>5} {'images':>15} {'training FLOPs':>15} {'hours':>10}",
    ]
    for (stage, model), part in (*groups.items(), (("all", "" if staged else "all"), list(runs))):
        flops, images = _flops(part), sum(map(_images, part))
        hours = plan_cost(flops, device, utilisation).hours
        first = f"{stage:<14}"[:indent]
        lines.append(f"{first}{model:<28} {len(part):>5} {images:>15,} {flops:>15.3g} {hours:>10.2f}")
    cost = plan_cost(_flops(runs), device, utilisation)
    lines.append(
        f"FLOPs: multiply-add = 2, training = 3 x forward (ViT, Table 6). Hours: one {device} at {utilisation:.0%} of "
        f"{cost.device.peak / 1e12:g} TFLOP/s; evaluation and data loading are not counted."
    )
    lines.append(_money(cost))
    return "\n".join(lines)


def _images(run: RunConfig) -> int:
    return run.total_steps * run.global_batch


def _flops(runs: Sequence[RunConfig]) -> int:
    return sum(run_flops(run, forward_flops(run)) for run in runs)


def _money(cost: Cost) -> str:
    """Returns the cost of the hours in dollars and energy, if the table of devices has them."""
    device, parts = cost.device, []
    if cost.dollars is not None:
        parts.append(f"{cost.dollars:.2f} dollars ({device.price_source}; {device.price_confidence})")
    if cost.energy is not None:
        parts.append(f"{cost.energy:.2f} kWh (the device alone at {device.watts:g} W)")
    return f"Cost: {', '.join(parts) or 'not known for this device'}."
