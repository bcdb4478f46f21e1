"""What a set of runs will cost, before the first one starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from vision_repro.accounting.flops import forward_flops, training_flops
from vision_repro.config import RunConfig

# An assumption, printed with the number: bf16 peak of one NVIDIA A100 [FLOP/s] and the share that training reaches.
PEAK, SHARE, DEVICE = 312e12, 0.4, "A100"


def run_flops(config: RunConfig, forward: int) -> int:
    """Returns the training FLOPs of a run: 3 x forward x images (ViT, Table 6; multiply-add = 2)."""
    return training_flops(forward, config.total_steps * config.global_batch)


def estimate(runs: Sequence[RunConfig], planned: int) -> str:
    """Returns a table of the runs to do, a line a model, with FLOPs and device-hours at a stated utilisation."""
    from vision_repro.models import build

    forward: dict[str, int] = {}
    for run in runs:
        if run.model not in forward:
            import torch

            with torch.device("meta"):
                model = build(run.model, image_size=run.image_size, classes=1000)
            forward[run.model] = forward_flops(model, run.image_size)
    total, count, images = Counter[str](), Counter[str](), Counter[str]()
    for run in runs:
        count[run.model] += 1
        images[run.model] += run.total_steps * run.global_batch
        total[run.model] += run_flops(run, forward[run.model])
    lines = [
        f"{len(runs)} of {planned} runs to do",
        f"{'model':<28} {'runs':>5} {'images':>15} {'training FLOPs':>15} {'hours':>10}",
    ]
    for name in count:
        hours = total[name] / (PEAK * SHARE) / 3600
        lines.append(f"{name:<28} {count[name]:>5} {images[name]:>15,} {total[name]:>15.3g} {hours:>10.2f}")
    hours = sum(total.values()) / (PEAK * SHARE) / 3600
    lines.append(f"{'all':<28} {len(runs):>5} {sum(images.values()):>15,} {sum(total.values()):>15.3g} {hours:>10.2f}")
    lines.append(
        f"FLOPs: multiply-add = 2, training = 3 x forward (ViT, Table 6). Hours: one {DEVICE} at {SHARE:.0%} of "
        f"{PEAK / 1e12:.0f} TFLOP/s; evaluation and data loading are not counted."
    )
    return "\n".join(lines)
