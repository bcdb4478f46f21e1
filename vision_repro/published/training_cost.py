"""Core-days, device-hours, money and energy of training runs, and the slides' price of a ViT."""

from __future__ import annotations

import csv
import io

from vision_repro.accounting.check import EXACT, Check, Table, format_number
from vision_repro.accounting.devices import devices, plan_cost
from vision_repro.accounting.markdown import markdown_table
from vision_repro.papers.tables import paper_table
from vision_repro.published.exaflops import exaflops

UTILISATION = 0.4
"""Assumed fraction of the peak rate that training reaches; every table prints it."""
TPU = "TPUv3-core"
RUNS = (("ViT-B/16", 7), ("ViT-L/16", 14), ("ViT-H/14", 14), ("ResNet152x2", 14), ("R50x1+ViT-L/16", 14))
"""(model, epochs of JFT) of ViT's Table 6 for which the plans are written."""
REPORTED = (("ViT-H/14", "JFT-300M", 14), ("ViT-L/16", "JFT-300M", 14), ("BiT-L ResNet152x4", "JFT-300M", 40))
"""Runs of ViT's Table 2 whose epochs on JFT are known (ViT, Table 6; BiT, section 3.3)."""
_SLIDES = "lecture slides, cost of training; ViT paper, Table 2 (2.5k core-days)"


def slides_price() -> Table:
    """Returns the checks of the slides' price of ViT-H/14 against core-days x price of a core."""
    days = next(float(row["mean"]) for row in _core_days() if row["model"] == "ViT-H/14")
    core = devices()[TPU]
    assert core.price is not None
    why = "the slides multiply core-days by the price of a device; $8.00 an hour was the list price of a v3-8, 8 cores"
    checks = (
        Check("ViT-H/14 on JFT", "price", "dollars", days * 24 * core.price, "480000", EXACT, _SLIDES, explanation=why),
        Check("2500 core-days", "device-days of a v3-8", "", days / 8, "312.5", EXACT, "2500 / 8"),
    )
    text = (
        f"## What the reported core-days mean\n\n{_reported()}\n\n## Plans\n\n{plans_markdown()}\n\n## The slides' "
        "price\n\n2500 TPUv3-core-days are 312.5 days of a v3-8: 312.5 x 24 x $8.00. The price is the "
        f"{core.price_source} ({core.price_confidence})."
    )
    return Table("cost", "Core-days, device-hours, money and energy", text, checks)


def _core_days() -> list[dict[str, str]]:
    return paper_table("vit_core_days")


def _reported() -> str:
    """Returns the rate of a TPUv3 core in the runs of ViT's Table 2, from our FLOPs and the printed core-days."""
    peak, rows = devices()[TPU].peak, []
    for model, data, epochs in REPORTED:
        days = next(float(row["mean"]) for row in _core_days() if (row["model"], row["pretrain_data"]) == (model, data))
        count = exaflops(model.removeprefix("BiT-L "), epochs, "inside")
        rate = count * 1e18 / (days * 86400)
        expected = plan_cost(count * 1e18, TPU, UTILISATION).days
        cells = (
            format_number(round(count)),
            format_number(days),
            f"{rate / 1e12:.1f}",
            f"{rate / peak:.0%}",
            format_number(round(expected)),
        )
        rows.append([f"{model}, {data}, {epochs} epochs", *cells])
    head = ["", "exaFLOPs", "core-days printed", "TFLOP/s a core", "of peak", f"core-days at {UTILISATION:.0%}"]
    return markdown_table(head, ["---", *["---:"] * 5], rows)


def plans() -> list[dict[str, str]]:
    """Returns a row for each run and device: FLOPs, utilisation, device-hours and -days, money, energy."""
    rows = []
    for model, epochs in RUNS:
        flops = exaflops(model, epochs, "inside") * 1e18
        for name in devices():
            cost = plan_cost(flops, name, UTILISATION)
            rows.append(
                {
                    "run": f"{model}, {epochs} epochs of JFT-300M",
                    "exaflops": f"{flops / 1e18:.0f}",
                    "device": name,
                    "peak_tflops": f"{cost.device.peak / 1e12:g}",
                    "peak_confidence": cost.device.confidence,
                    "utilisation": f"{cost.utilisation:g}",
                    "device_hours": f"{cost.hours:.0f}",
                    "device_days": f"{cost.days:.0f}",
                    "dollars": "" if cost.dollars is None else f"{cost.dollars:.0f}",
                    "price_confidence": cost.device.price_confidence,
                    "kwh": "" if cost.energy is None else f"{cost.energy:.0f}",
                }
            )
    return rows


def plans_csv() -> str:
    """Returns the plans as CSV."""
    out, rows = io.StringIO(), plans()
    lines = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    lines.writeheader()
    lines.writerows(rows)
    return out.getvalue()


def plans_markdown() -> str:
    """Returns the plans as Markdown, one line for each run and device, and the assumptions below."""
    rows = []
    for row in plans():
        peak = row["peak_tflops"] + "*" * (row["peak_confidence"] == "memory")
        dollars = _grouped(row["dollars"]) + "*" * (row["price_confidence"] == "memory")
        times = [_grouped(row[key]) for key in ("device_hours", "device_days")]
        rows.append([row["run"], _grouped(row["exaflops"]), row["device"], peak, *times, dollars, _grouped(row["kwh"])])
    head = ["run", "exaFLOPs", "device", "peak TFLOP/s", "device-hours", "device-days", "dollars", "kWh"]
    align = ["---", "---:", "---", *["---:"] * 5]
    return (
        markdown_table(head, align, rows)
        + f"\n\nAssumption: {UTILISATION:.0%} of the peak rate. Device-days of a {TPU} are core-days. "
        "Dollars are list prices; kWh are of the device alone at its stated watts; `*` marks a peak rate or a price "
        "from memory. Every number and its source is in `vision_repro/papers/printed/devices.csv`, which you may "
        "edit; a number that is missing there is an empty cell here."
    )


def _grouped(digits: str) -> str:
    return f"{int(digits):,}" if digits else ""
