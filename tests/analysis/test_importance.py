"""Importance of searched parameters against closed forms, and the table of trials."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import numpy as np
import pytest

from vision_repro.analysis.importance import importances
from vision_repro.analysis.trials import Trial, best_trial, read_trials, trials_to_csv
from vision_repro.config import UserError


def trial(number: int, value: float | None, state: str = "finished", **parameters: str | float) -> Trial:
    return Trial(number, f"run{number}", state, 10, parameters, value)


def test_on_a_full_grid_it_is_the_main_effect_of_an_analysis_of_variance() -> None:
    """Value = 3 a + b + a b - 1 without noise; the shares worked out from the sums of squares of the grid itself."""
    grid = list(itertools.product((0.0, 1.0, 2.0), (0.0, 1.0, 2.0), ("x", "y")))
    value = {(a, b): 3 * a + b + (a - 1) * (b - 1) for a, b, _ in grid}
    found = importances([trial(n, value[a, b], lr=a, decay=b, model=c) for n, (a, b, c) in enumerate(grid)])
    whole = np.var([value[a, b] for a, b, _ in grid])
    expected = {
        "lr": np.var([np.mean([value[a, b] for b in (0, 1, 2)]) for a in (0, 1, 2)]) / whole,
        "decay": np.var([np.mean([value[a, b] for a in (0, 1, 2)]) for b in (0, 1, 2)]) / whole,
        "model": 0.0,
    }
    assert {item.name: item.share for item in found} == pytest.approx(expected, abs=1e-9)
    assert [item.name for item in found] == ["lr", "decay", "model"]
    assert found[0].share > found[0].chance > 0
    assert found[2].correlation is None
    assert found[0].correlation is not None
    assert found[0].correlation > 0.8


def test_noise_stays_below_what_chance_gives() -> None:
    """One parameter decides, one does nothing: of random searches one in 20 has the latter above chance."""
    above = 0
    for seed in range(6):
        draw = random.Random(seed)
        points = [(10 ** draw.uniform(-4, -1), draw.uniform(0, 1)) for _ in range(24)]
        found = importances(
            [
                trial(n, -((np.log10(a) + 2.5) ** 2) + draw.gauss(0, 0.1), lr=a, none=b)
                for n, (a, b) in enumerate(points)
            ]
        )
        shares = {item.name: item for item in found}
        assert shares["lr"].share > shares["lr"].chance
        above += shares["none"].share > shares["none"].chance
    assert above <= 2


def test_a_diverged_trial_counts_as_the_worst() -> None:
    values = [0.9, 0.8, 0.9, 0.8]
    good = [trial(n, value, lr=0.001, model="ab"[n % 2]) for n, value in enumerate(values)]
    lost = [trial(4 + n, None, "diverged", lr=0.1, model="ab"[n % 2]) for n in range(4)]
    (first, second) = importances([*good, *lost])
    assert first.correlation is None or first.correlation < 0
    assert {first.name, second.name} == {"lr", "model"}
    assert importances(good[:3]) == []
    assert importances([trial(n, 0.5, lr=float(n)) for n in range(6)]) == []
    assert [item.name for item in importances([*good, trial(9, None, "failed", lr=1.0, model="a")])] == ["model"]


def test_the_best_is_finished_and_the_first_of_equals() -> None:
    trials = [
        trial(0, 0.5),
        trial(1, 0.9, "stopped"),
        trial(2, 0.7),
        trial(3, 0.7),
        trial(4, None, "diverged"),
    ]
    assert best_trial(trials, "maximize") is trials[2]
    assert best_trial(trials, "minimize") is trials[0]
    assert best_trial(trials[4:], "maximize") is None


def test_trials_are_written_and_read_back(tmp_path: Path) -> None:
    trials = [trial(0, 0.5, lr=1e-05, model="a,b"), trial(1, None, "diverged", lr=0.1, model="c")]
    file = tmp_path / "trials.csv"
    file.write_text(trials_to_csv(trials, "val_accuracy"))
    assert read_trials(file) == (trials, "val_accuracy")
    for text in ("", "a,b\n", file.read_text().replace("diverged", "gone"), file.read_text() + "1,2\n"):
        file.write_text(text)
        with pytest.raises(UserError, match="no table of trials"):
            read_trials(file)
    with pytest.raises(UserError, match="cannot be read"):
        read_trials(tmp_path / "missing.csv")
