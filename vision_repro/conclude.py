"""From finished measurements to table, verdicts, figure and summary."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import yaml

from vision_repro.accounting import ledger_text
from vision_repro.analysis.claims import Evidence, Verdict, judge_all
from vision_repro.analysis.summary import SummaryRow, summarise, to_csv, to_lines, to_markdown
from vision_repro.analysis.table import Table
from vision_repro.analysis.verdicts import verdicts_to_json, verdicts_to_markdown
from vision_repro.config import RunConfig, construct, plain, run_id
from vision_repro.experiment import Plan, linked
from vision_repro.store.atomic import write_atomic
from vision_repro.store.lock import Lock
from vision_repro.store.runs import PICTURES, RunFolder
from vision_repro.store.seals import digest
from vision_repro.store.table import TABLE_NAME, TableSpec, table_csv, write_table

WIDEST = 6
"""Columns that a table of one metric in `summary.md` has at most; with more levels, settings are lines."""


def conclude(planned: Plan) -> list[Verdict]:
    """Writes table, summary, verdicts, figure and their provenance from the finished runs; prints them."""
    out = planned.summary
    with Lock(out):
        write_table(out / TABLE_NAME, planned.spec, map(planned.folder, planned.runs))
        table = Table.read(out / TABLE_NAME)
        rows = summarise(table, planned.experiment.settings)
        evidence = Evidence(table, planned.preset_name, planned.preset.evidence)
        verdicts = judge_all(planned.experiment.claims(planned.preset_name, planned.preset), evidence)
        text = _markdown(planned, rows, verdicts, ledger_text.write(planned, out))
        write_atomic(out / "summary.csv", to_csv(rows))
        write_atomic(out / "summary.md", text)
        write_atomic(out / "verdicts.json", verdicts_to_json(verdicts))
        write_atomic(out / "config.yaml", yaml.safe_dump(_described(planned), sort_keys=False))
        from vision_repro.figures.style import save

        shown = table if planned.experiment.shows_seeds else rows
        save(planned.experiment.figure(shown, verdicts, planned.preset_name, planned.preset), out / "figure")
        _draw_pictures(planned)
        write_atomic(out / "provenance.json", json.dumps(_sources(planned), indent=1) + "\n")
    print(text)
    print(f"Figure, table and verdicts: {out}/")
    return verdicts


def _draw_pictures(planned: Plan) -> None:
    """Draws what the pre-trained models of the first seed make of masked images, if there are any."""
    # Imported here for start-up time: matplotlib takes long to import.
    from vision_repro.figures.pictures import pictures_figure, read
    from vision_repro.figures.style import save

    first = min((run.seed for run in planned.all), default=0)
    longest: dict[str, RunConfig] = {}
    for run in sorted(planned.upstream, key=lambda run: run.steps):
        if run.seed == first and (planned.folder(run).path / PICTURES).exists():
            longest[f"{run.objective}, {run.corrupted:.0%} of the patches"] = run
    titles = {f"{title}, {run.steps:,} steps": planned.folder(run).path / PICTURES for title, run in longest.items()}
    blocks = [read(file, title) for title, file in titles.items()]
    if blocks:
        note = (
            "The first images of test; masked patches are grey, and only what was masked or replaced is predicted. MAE "
            "predicts patches without their mean and deviation, which are shown as they truly are."
        )
        save(pictures_figure(blocks, notes=[note]), planned.summary / "pictures")


def _described(planned: Plan) -> dict[str, Any]:
    axes = {key: list(values) for key, values in planned.preset.axes.items()}
    return {
        "preset": planned.preset_name,
        "axes": axes,
        "seeds": planned.preset.seeds,
        "base": plain(planned.preset.base),
    }


def _sources(planned: Plan) -> dict[str, Any]:
    """Returns what the runs' provenance files have in common, and the sum of their cost; those upstream count."""
    found = []
    for run in planned.unique:
        file = planned.folder(run).path / "provenance.json"
        if planned.folder(run).result() is not None and file.exists():
            found.append(json.loads(file.read_text()))
    keys = ("commit", "dirty", "lock_sha256", "versions", "device", "devices", "precision", "attention", "command")
    merged = {key: _distinct(item.get(key) for item in found) for key in keys}
    results = [result for run in planned.unique if (result := planned.folder(run).result())]
    data = {key: _distinct(result.get(key) for result in results) for key in ("data_sha256", "subset_sha256")}
    hours = round(sum(float(item.get("device_hours", 0)) for item in found), 4)
    return {"runs": len(results), "device_hours": hours, **merged, **data}


def _distinct(values: Iterable[Any]) -> Any:
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found[0] if len(found) == 1 else found


def _markdown(planned: Plan, rows: Sequence[SummaryRow], verdicts: Sequence[Verdict], cost: str) -> str:
    head = (
        f"# {planned.experiment.name}, preset {planned.preset_name}{planned.changed}\n\n{planned.experiment.question}\n"
    )
    shown = [name for name in planned.experiment.tables if any(row.metric == name for row in rows)]
    across = planned.experiment.settings[-1]
    if max((len({row.setting[across] for row in rows if row.metric == name}) for name in shown), default=0) > WIDEST:
        tables = [f"## Results\n\n{to_lines(rows, shown)}"]
    else:
        units = {row.metric: "%" if row.unit == "fraction" else row.unit for row in rows}
        tables = [f"## {name.replace('_', ' ')} [{units[name]}]\n\n{to_markdown(rows, name, across)}" for name in shown]
    return "\n".join([head, *tables, f"## Verdicts\n\n{verdicts_to_markdown(verdicts)}", *([cost] if cost else [])])


def of_preset(planned: Plan) -> Plan | None:
    """Returns the plan of the unchanged preset if it has all runs of this one, else None."""
    preset = planned.experiment.presets[planned.preset_name]
    runs, upstream = linked(planned.experiment, planned.preset_name, preset, planned.arithmetic)
    if not set(planned.runs) <= set(runs):
        return None
    return replace(planned, preset=preset, changed="", runs=runs, upstream=upstream)


def conclude_trial(planned: Plan) -> None:
    """Adds the runs of a trial to the table they belong to."""
    whole = of_preset(planned)
    if whole is None:
        sweep = os.environ.get("WANDB_SWEEP_ID", "")
        print(f"Table: {_add(planned, planned.root / f'sweep-{sweep}')}")
    elif all(whole.folder(run).outcome() for run in whole.runs):
        conclude(whole)
    else:
        with Lock(whole.summary):
            write_table(whole.summary / TABLE_NAME, whole.spec, map(whole.folder, whole.runs))
        print(f"Table: {whole.summary / TABLE_NAME}")


def _add(planned: Plan, out: Path) -> Path:
    """Returns the table of a sweep, written anew from all its trials, without the metrics on `test`."""
    for run in planned.runs:
        text = yaml.safe_dump(plain(run), sort_keys=False)
        write_atomic(out / "trials" / f"{run_id(run)}-{digest(text.encode())[:8]}.yaml", text)
    with Lock(out):
        files = sorted((out / "trials").glob("*.yaml"))
        runs = [construct(RunConfig, yaml.safe_load(file.read_text())) for file in files]
        folders = [planned.folder(run) for run in runs]
        spec = TableSpec(planned.experiment.name, out.name, _settings(planned, folders))
        lines = table_csv(spec, folders).splitlines(keepends=True)
        metric = spec.columns.index("metric")
        kept = [line for line in lines[1:] if not line.split(",")[metric].startswith("test")]
        write_atomic(out / TABLE_NAME, lines[0] + "".join(kept))
    return out / TABLE_NAME


def _settings(planned: Plan, folders: list[RunFolder]) -> tuple[str, ...]:
    """Returns what the experiment compares, and what else differs between the runs."""
    names = [item.name for item in fields(RunConfig) if item.name != "seed"]
    varied = [name for name in names if len({getattr(folder.config, name) for folder in folders}) > 1]
    return tuple(dict.fromkeys((*planned.experiment.settings, *varied)))
