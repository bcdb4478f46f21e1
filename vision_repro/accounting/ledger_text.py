"""Formats the cost ledger for people: rounded numbers with units, and notes that explain them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from vision_repro.accounting.devices import devices, find_device
from vision_repro.accounting.ledger import Entry, Planned, entries
from vision_repro.accounting.ledger_lines import LEDGER_NAME, Line, lines, to_csv
from vision_repro.accounting.markdown import markdown_table
from vision_repro.store.atomic import write_atomic

TOLERANCE = 0.01
"""Largest relative difference between our forward FLOPs and those of torch's counter that gets no note."""
_COLUMNS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("runs", "runs", lambda value: f"{value:,}"),
    ("training FLOPs", "training_flops", lambda value: f"{value:.3g}"),
    ("images", "images", lambda value: f"{value:,}"),
    ("images/s", "images_per_second", lambda value: f"{value:,.0f}" if value >= 100 else f"{value:.3g}"),
    ("utilisation [%]", "utilisation", lambda value: f"{100 * value:.1f}"),
    ("training [h]", "training_hours", lambda value: f"{value:.3g}"),
    ("evaluation [h]", "evaluation_hours", lambda value: f"{value:.3g}"),
    ("device-hours", "device_hours", lambda value: f"{value:.3g}"),
    ("peak memory [MiB]", "peak_memory", lambda value: f"{value / 2**20:,.0f}"),
    ("energy [kWh]", "energy", lambda value: f"{value:.3g}"),
    ("dollars", "dollars", lambda value: f"{value:,.2f}"),
)


def table_rows(listed: Sequence[Line]) -> tuple[list[str], list[list[str]]]:
    """Returns the head and the rows of the ledger as text; columns without any known number are left out."""
    columns = [item for item in _COLUMNS if any(getattr(line, item[1]) is not None for line in listed)]
    rows = []
    for line in listed:
        values = [(getattr(line, name), write) for _, name, write in columns]
        rows.append([line.stage, line.model, *("" if value is None else write(value) for value, write in values)])
    return ["stage", "model", *(head for head, _, _ in columns)], rows


def write(planned: Planned, folder: Path) -> str:
    """Writes the ledger of a plan's finished runs to `folder`; returns its section of a summary.

    If no run has recorded its cost, nothing is written and the section is empty.
    """
    found = entries(planned)
    text = to_markdown(found)
    if text:
        write_atomic(folder / LEDGER_NAME, to_csv(lines(found)))
    return f"## Cost\n\n{text}\n" if text else ""


def to_markdown(found: Sequence[Entry]) -> str:
    """Returns the ledger of runs as a Markdown table with its notes; the empty string if no run recorded its cost."""
    recorded = [entry for entry in found if entry.cost is not None]
    if not recorded:
        return ""
    head, rows = table_rows(lines(found))
    table = markdown_table(head, ["---", "---", *["---:"] * (len(head) - 2)], rows)
    return f"{table}\n\n{' '.join([*_definitions(found, recorded), *_prices(recorded), *_count_differences(recorded)])}"


def _definitions(found: Sequence[Entry], recorded: Sequence[Entry]) -> list[str]:
    """Returns sentences that define the numbers, for the devices of the table."""
    names = list(dict.fromkeys(str(entry["device"]) for entry in recorded))
    memory = list(dict.fromkeys(str(entry["peak_memory_of"]) for entry in recorded))
    energy = list(dict.fromkeys(str(entry["energy_from"]) for entry in recorded if entry["energy_from"]))
    texts = [
        "Training FLOPs: multiply-add = 2, 3 x forward x images (ViT, Table 6).",
        f"Device-hours: from the start of a run to its last measurement, times its devices ({'; '.join(names)}; on a "
        "CPU a device is one process).",
        f"Memory: {', '.join(memory)}, on one device.",
    ]
    texts += [f"Energy: measured by {' and '.join(energy)}."] if energy else []
    if len(recorded) < len(found):
        missing = len(found) - len(recorded)
        texts.append(f"{missing} of {len(found)} runs are older than this ledger and recorded no cost.")
    return texts


def _prices(recorded: Sequence[Entry]) -> list[str]:
    """Returns a sentence on the price of each device, with its source."""
    table, texts = devices(), []
    for name in dict.fromkeys(str(entry["device"]) for entry in recorded):
        device = find_device(name, table)
        if device is None or device.price is None:
            texts.append(f'No price for "{name}": add a line for it to a file that VISION_REPRO_PRICES names.')
        else:
            source = f"{device.price_source or 'no source'}; {device.price_confidence or 'not checked'}"
            texts.append(f"Dollars: {device.price:g} an hour of {device.name} ({source}).")
    return texts


def _count_differences(recorded: Sequence[Entry]) -> list[str]:
    """Returns a sentence on each model whose FLOPs differ between our count and torch's counter."""
    ratios = {entry.model: entry["counted_over_measured"] for entry in recorded}
    return [
        f"For {model} our count is {ratio:.3f} times that of torch's counter."
        for model, ratio in ratios.items()
        if ratio is not None and abs(ratio - 1) > TOLERANCE
    ]
