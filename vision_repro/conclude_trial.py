"""What a trial of a W&B sweep leaves beside its run: rows in the table that it belongs to, never a table of its own.

A trial that is a run of the preset's grid adds to the preset's table, which with the last of them gets its figure and
its verdicts. Any other adds to the table of its sweep, `sweep-<id>/table.csv`; it names its run by an empty file, so
that any number of agents, on any number of machines, can do so at once.
"""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path

from vision_repro.config import RunConfig
from vision_repro.experiment import Plan, conclude, grid, plan
from vision_repro.store.dependencies import folder_of
from vision_repro.store.runs import TABLE_NAME, Lock, RunFolder, TableSpec, table_csv, write_atomic, write_table


def of_preset(planned: Plan) -> Plan | None:
    """Returns the plan of the unchanged preset if it has all runs of this one, else None."""
    preset = planned.experiment.presets[planned.preset_name]
    if not set(planned.runs) <= set(grid(planned.experiment, planned.preset_name, preset)):
        return None
    return plan(planned.experiment, [f"--preset={planned.preset_name}", f"--out={planned.launch.out}"])


def conclude_trial(planned: Plan) -> None:
    """Adds the runs of a trial to the table they belong to."""
    whole = of_preset(planned)
    if whole is None:
        sweep = os.environ.get("WANDB_SWEEP_ID", "")
        print(f"Table: {_add(planned, planned.root / f'sweep-{sweep}')}")
    elif all(whole.folder(run).result() for run in whole.runs):
        conclude(whole)
    else:
        with Lock(whole.summary):
            write_table(whole.summary / TABLE_NAME, whole.spec, map(whole.folder, whole.runs))
        print(f"Table: {whole.summary / TABLE_NAME}")


def _add(planned: Plan, out: Path) -> Path:
    """Returns the table of a sweep, written anew from all its runs, without a look at `test`."""
    for run in planned.runs:
        write_atomic(out / "runs" / planned.folder(run).id, "")
    with Lock(out):
        names = sorted(file.name for file in (out / "runs").iterdir() if not file.name.startswith("."))
        folders = [folder_of(name, planned.folder(planned.runs[0])) for name in names]
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
