"""The figure of a sweep: what it shows, and that nothing leaves the page."""

from __future__ import annotations

import random
from functools import cache

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from vision_repro.analysis.importance import Importance, importances
from vision_repro.analysis.trials import Trial
from vision_repro.figures.sweep import MOST_LEVELS, sweep_figure

MODELS = ("vit-32x4/2", "bit-r11x0.15")


def trials(count: int) -> list[Trial]:
    draw = random.Random(0)
    found = []
    for number in range(count):
        parameters = {
            "lr": 10 ** draw.uniform(-4, -1),
            "weight_decay": draw.choice([0.0, 0.1, 0.3]),
            "model": draw.choice(MODELS),
        }
        state = ("finished", "stopped", "finished", "diverged")[number % 4] if number else "finished"
        found.append(Trial(number, str(number), state, 9, parameters, None if state == "diverged" else draw.random()))
    return found


@cache
def explained(count: int) -> list[Importance]:
    return importances(trials(count))


def drawn(count: int, width: float = 5.5) -> Figure:
    return sweep_figure(trials(count), explained(count), metric="val_accuracy", goal="maximize", width=width)


def texts(figure: Figure) -> list[Text]:
    return [item for item in figure.findobj(Text) if isinstance(item, Text) and item.get_visible() and item.get_text()]


@pytest.mark.parametrize("width", [5.5, 3.25, 7.2])
@pytest.mark.parametrize("count", [1, 3, 24])
def test_nothing_leaves_the_page(count: int, width: float) -> None:
    figure = drawn(count, width)
    renderer = FigureCanvasAgg(figure).get_renderer()
    for text in texts(figure):
        box = text.get_window_extent(renderer)
        assert box.x0 >= -2, text.get_text()
        assert box.x1 <= figure.bbox.width + 2, text.get_text()
        assert box.y0 >= -2, text.get_text()
        assert box.y1 <= figure.bbox.height + 2, text.get_text()


def test_every_trial_and_every_parameter_is_there() -> None:
    figure = drawn(24)
    words = " ".join(text.get_text() for text in texts(figure))
    for word in ("lr", "weight_decay", "model", "val accuracy [%]", "ViT-32", "BiT-R11", "24 trials", "stopped early"):
        assert word in words
    lines = [line for line in figure.axes[0].get_lines() if len(line.get_xdata()) > 2]
    assert len(lines) == 24
    best = max((trial for trial in trials(24) if trial.state == "finished"), key=lambda trial: trial.value or 0)
    assert f"{100 * (best.value or 0):.1f} %" in words
    assert len(figure.axes[1].patches) == 3


def test_few_trials_have_no_bars_and_many_levels_get_a_scale() -> None:
    assert len(drawn(3).axes) == 1
    found = trials(24)
    assert len({trial.parameters["lr"] for trial in found}) > MOST_LEVELS
    assert {"0.001", "0.01"} <= {text.get_text() for text in texts(drawn(24))}
