"""Claims about several comparisons at once, such as `all of these score the same`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vision_repro.analysis.claims import FAILS, HOLDS, UNDECIDED, UNTESTED, Judgement


def jointly(judgements: Sequence[Judgement], *, subject: str = "") -> Judgement:
    """Returns the judgement that all comparisons together support, with the estimate of the one that decides.

    `fails` if one fails, else `untested` or `undecided` if one is, and `holds` if all hold: then no correction for
    their number is needed, since the joint claim errs only where a single one does. `fails` has none either (see
    `claims`). Of several comparisons that decide, the one farthest from 0 is shown.
    """
    if not judgements:
        return Judgement(UNTESTED, subject or "comparisons", None, "nothing to compare")
    verdict = next(word for word in (FAILS, UNTESTED, UNDECIDED, HOLDS) if any(j.verdict == word for j in judgements))
    deciding = [judgement for judgement in judgements if judgement.verdict == verdict]
    shown = max(deciding, key=lambda item: abs(item.estimate.mean) if item.estimate and item.estimate.n else -1.0)
    if len(judgements) == 1:
        return shown
    which = (
        "the farthest from 0" if len(deciding) == len(judgements) else f"the farthest of {len(deciding)} that decide"
    )
    note = "; ".join(
        text for text in (f"{which} of {len(judgements)} comparisons: {shown.subject}", shown.note) if text
    )
    return replace(shown, subject=subject or shown.subject, note=note)
