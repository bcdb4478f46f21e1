"""The experiment on kernel sizes: what is equal in its networks, its verdicts on planted tables, its figure."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest
from matplotlib.figure import Figure

from experiments import kernel_size
from experiments.kernel_size import ARMS, EXPERIMENT, PRESETS
from vision_repro.accounting.architectures import counted
from vision_repro.analysis.claims import FAILS, HOLDS, UNDECIDED, UNTESTED, Evidence, Verdict, judge_all
from vision_repro.analysis.judges.kernels import share_of_weights
from vision_repro.analysis.summary import summarise
from vision_repro.analysis.table import Row, Table
from vision_repro.experiment import Preset, grid

CPU = ARMS["cpu"]


def cost(model: str, image_size: int) -> tuple[int, int]:
    """Parameters and FLOPs of one image, by the accountant."""
    book = counted(model, image_size, 10)
    return book.parameters, 2 * book.macs()


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_grid_of_runs(name: str) -> None:
    preset = PRESETS[name]
    runs = grid(EXPERIMENT, name, preset)
    assert len(set(runs)) == len(runs) == preset.seeds * len(set(ARMS[name].values()))
    assert all(run.total_steps % run.evaluations == 0 and run.probe_names == ("cost",) for run in runs)
    assert preset.evidence is (name != "smoke")


@pytest.mark.parametrize("name", PRESETS)
def test_what_is_said_to_be_equal_is(name: str) -> None:
    """Within 2 %; and the network that is widened in one stage spends clearly less of the other cost."""
    size = PRESETS[name].base.image_size
    for (stack, match), model in ARMS[name].items():
        large = next(large for large, small, _ in kernel_size.PAIRS if stack.split("-")[0] in (large, small))
        reference = ARMS[name][large, "field"]
        ours, theirs = cost(model, size), cost(reference, size)
        parameters, flops = (a / b for a, b in zip(ours, theirs, strict=True))
        if match == "field":
            assert model.rpartition("-c")[2] == reference.rpartition("-c")[2]
            assert stack == large or max(parameters, flops) < 0.8
        else:
            assert abs(parameters - 1) < 0.02 or match == "flops"
            assert abs(flops - 1) < 0.02 or match == "parameters"
            assert flops < 0.91 or match != "parameters"
            assert parameters < 0.93 or match != "flops"


def table(values: dict[str, float], seeds: int = 5, size: int = 8) -> Table:
    """Seeds around the accuracy of each model, all with the same luck but for a little; and what the models cost."""
    rows, luck = [], random.Random(0)
    for model, value in values.items():
        parameters, flops = cost(model, size)
        for seed in range(seeds):
            measured = {
                "test_accuracy": (value + 0.01 * seed + luck.uniform(-0.001, 0.001), "fraction"),
                "parameters": (parameters, "parameters"),
                "forward_flops": (flops, "FLOPs"),
            }
            rows += [
                Row("kernel_size", "cpu", f"{model}{seed}", {"model": model}, seed, "ok", metric, number, unit)
                for metric, (number, unit) in measured.items()
            ]
    return Table(rows)


def judged(values: dict[str, float], seeds: int = 5, counts: bool = True) -> dict[str, Verdict]:
    found = judge_all(kernel_size.claims("cpu", PRESETS["cpu"]), Evidence(table(values, seeds), "cpu", counts))
    return {item.claim: item for item in found}


def accuracies(**changes: float) -> dict[str, float]:
    """What the paper expects; changes are by the name of the stack with `_` for `.` and `-`, and the match."""
    plain = {"5": 0.60, "3.3": 0.65, "3.3-linear": 0.60, "7": 0.55, "3.3.3": 0.65, "3.3.3-linear": 0.55}
    found = {}
    for (stack, match), model in CPU.items():
        key = f"_{stack}_{match}".replace(".", "_").replace("-", "_")
        found[model] = changes.get(key, plain[stack] + 0.01 * (match != "field"))
    return found


def test_what_the_paper_expects_holds() -> None:
    found = judged(accuracies())
    assert len(found) == 16
    assert {item.verdict for item in found.values()} == {HOLDS}
    assert {item.source.split(",")[0] for item in found.values()} == {"VGG", "CNN slides"}


def test_the_slides_ratios_are_counted() -> None:
    found = judged(accuracies())
    assert found["fewer-weights:5"].paper == "0.72 (18/25)"
    assert "0.72, expected 0.72;" in found["fewer-weights:5"].reason
    assert "0.55102, expected 0.55102;" in found["fewer-weights:7"].reason
    assert round(27 / 49, 2) == float(found["fewer-weights:7"].paper[:4])


def test_the_ratio_fails_where_the_count_is_another() -> None:
    models = {item: CPU[item, "field"] for item in ("5", "3.3")}
    evidence = Evidence(table({model: 0.6 for model in models.values()}), "cpu", True)
    right = share_of_weights(evidence, models["5"], models["3.3"], (5, 3, 3), (12, 24))
    wrong = share_of_weights(evidence, models["5"], models["3.3"], (5, 3, 3), (12, 25))
    assert (right.verdict, wrong.verdict) == (HOLDS, FAILS)
    missing = share_of_weights(evidence, models["5"], "kernels-3.3", (5, 3, 3), (12, 24))
    assert missing.verdict == UNTESTED
    with pytest.raises(ValueError, match="does not see as many pixels"):
        share_of_weights(evidence, models["5"], models["3.3"], (7, 3, 3), (12, 24))


@pytest.mark.parametrize(
    ("changes", "claim", "verdict"),
    [
        ({"_3_3_field": 0.60}, "better-at-equal-field:5", UNDECIDED),
        ({"_3_3_field": 0.60}, "not-worse-at-equal-field:5", HOLDS),
        ({"_3_3_field": 0.60}, "non-linearity-helps:5", UNDECIDED),
        ({"_3_3_field": 0.59}, "better-at-equal-field:5", FAILS),
        ({"_3_3_field": 0.59}, "not-worse-at-equal-field:5", HOLDS),
        ({"_3_3_field": 0.57}, "not-worse-at-equal-field:5", FAILS),
        ({"_3_3_parameters": 0.5}, "better-at-equal-parameters:5", FAILS),
        ({"_3_3_parameters": 0.5}, "better-at-equal-flops:5", HOLDS),
        ({"_3_3_3_flops": 0.5}, "better-at-equal-flops:7", FAILS),
        ({"_3_3_3_both": 0.5}, "better-at-equal-both:7", FAILS),
        ({"_3_3_3_linear_field": 0.5}, "fewer-weights-cost-nothing:7", FAILS),
        ({"_3_3_3_linear_field": 0.7}, "non-linearity-helps:7", FAILS),
    ],
)
def test_one_network_changed_changes_the_verdicts_on_it(changes: dict[str, float], claim: str, verdict: str) -> None:
    assert judged(accuracies(**changes))[claim].verdict == verdict


def test_matches_stand_in_the_notes() -> None:
    found = judged(accuracies())
    ours, theirs = cost(CPU["3.3.3", "flops"], 8), cost(CPU["7", "field"], 8)
    note = f"{ours[0] / theirs[0]:.3f} of its parameters and {ours[1] / theirs[1]:.3f} of its FLOPs"
    assert note in found["better-at-equal-flops:7"].reason


def test_too_little_evidence_tests_nothing() -> None:
    few = {name: item.verdict for name, item in judged(accuracies(), seeds=2).items()}
    assert few.pop("fewer-weights:5") == few.pop("fewer-weights:7") == HOLDS  # counted, so without noise
    assert set(few.values()) == {UNTESTED}
    assert {item.verdict for item in judged(accuracies(), counts=False).values()} == {UNTESTED}
    assert {item.verdict for item in judged({}).values()} == {UNTESTED}


def test_claims_are_on_models_that_are_trained() -> None:
    some = {arm: CPU[arm] for arm in (("5", "field"), ("3.3", "both"))}
    preset = Preset(PRESETS["cpu"].base, {"model": tuple(some.values())}, 5, "")
    assert [claim.name for claim in kernel_size.claims("cpu", preset)] == ["better-at-equal-both:5"]


def test_the_figure_shows_each_network_over_both_costs() -> None:
    rows = summarise(table(accuracies()), ("model",))
    drawn = kernel_size.figure(rows, list(judged(accuracies()).values()), "cpu", PRESETS["cpu"])
    assert isinstance(drawn, Figure)
    by_parameters, by_flops, listed, differing = drawn.axes
    for axes, place in ((by_parameters, 0), (by_flops, 1)):
        found = [float(x) for line in axes.lines for x in np.asarray(line.get_xdata())]
        assert sorted(found) == pytest.approx(sorted(cost(model, 8)[place] for model in CPU.values()), rel=0.05)
    labels = [text.get_text() for text in listed.get_yticklabels()]
    assert len(set(labels)) == len(CPU) == 12
    assert {"5x5", "2 of 3x3", "3 of 3x3, linear", "2 of 3x3, both", "3 of 3x3, FLOPs"} <= set(labels)
    estimates = [item.estimate for item in judged(accuracies()).values()]
    shown = sorted(float(x) for line in differing.lines for x in np.asarray(line.get_xdata()))
    assert len(shown) == 12
    assert all(any(100 * item.mean == pytest.approx(x) for item in estimates if item) for x in shown)


def test_the_docstring_names_every_preset_and_the_borders() -> None:
    assert kernel_size.__doc__
    assert set(PRESETS) <= set(re.findall(r"\w+", kernel_size.__doc__))
    from vision_repro.analysis.judges.kernels import inside

    shares = [f"{float(100 * inside(side, pixels)):.0f}" for side in (7, 3) for pixels in (16, 8, 4)]
    assert shares == ["80", "62", "33", "92", "84", "69"]
    assert all(share in kernel_size.__doc__ for share in shares)
