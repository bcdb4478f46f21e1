"""Whether a committed result was measured with today's recipe: whether its runs are those that its preset has now."""

from __future__ import annotations

from functools import cache

from vision_repro.catalogue import experiment
from vision_repro.config import UserError, run_id
from vision_repro.experiment import grid
from vision_repro.report.found import Result


@cache
def runs_of_preset(name: str, preset: str) -> frozenset[str]:
    """Returns the ids of the runs of a preset's table on a CPU; none where experiment or preset are unknown."""
    try:
        found = experiment(name).EXPERIMENT
        return frozenset(map(run_id, grid(found, preset, found.presets[preset])))
    except (UserError, KeyError):
        return frozenset()


def older_recipe(result: Result) -> str:
    """Returns a sentence if a result's runs are not those that today's code would carry out, else nothing.

    Such a result is kept until it is measured again: its table, figure and verdicts agree with each other, but the same
    command would now train other runs, and cannot continue these.
    """
    if result.searched or result.name != result.preset:
        return ""
    now = runs_of_preset(result.experiment, result.preset)
    then = {row.run for row in result.table.rows}
    if not now or then == now:
        return ""
    same = len(then & now)
    return (
        f"Measured with an older recipe: {same or 'none'} of the {len(then)} runs behind this table "
        f"{'is' if same == 1 else 'are'} among the {len(now)} of the preset now. It stays until it is measured again."
    )
