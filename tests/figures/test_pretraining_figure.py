"""The figure of pre-training: what it says and shows, and that nothing overlaps."""

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from tests.figures.apart import assert_apart
from vision_repro.analysis.claims import HOLDS, UNTESTED, Verdict
from vision_repro.analysis.intervals import t_interval
from vision_repro.analysis.summary import SummaryRow
from vision_repro.figures.pretraining import Group, Origin, pretraining_figure
from vision_repro.figures.venues import VENUES, on_page

ORIGINS = (
    Origin("", "no pre-training", "scratch"),
    Origin("supervised", "supervised", "supervised"),
    Origin("mean-colour", "mean colour, 50 %"),
    Origin("mae", "MAE, 75 %", "beyond"),
)
GROUPS = (
    Group("test_accuracy", "steps", 100, "fine-tuned, 100 labels"),
    Group("test_accuracy", "steps", 49000, "fine-tuned, 49,000 labels"),
    Group("few_shot_5", "none", 49000, "5-shot, frozen"),
    Group("linear_accuracy", "none", 49000, "linear, frozen"),
)
LENGTHS = {75: "mean-colour@75", 300: "mean-colour@300", 1200: "mean-colour"}
STARTS = {"": 0.4, "supervised": 0.6, "mean-colour": 0.5, "mae": 0.52, "mean-colour@75": 0.42, "mean-colour@300": 0.47}
VERDICTS = (
    Verdict("a", "It beats scratch", "ViT, 4.6", HOLDS, t_interval([0.2, 0.21, 0.22]), "fraction", "r", "m", "s"),
    Verdict("b", "Gains flatten", "ViT, B.1.2", UNTESTED, None, "fraction", "too few seeds", "m"),
)


def drawn(seeds: int, width: float | None = 5.5, groups: tuple[Group, ...] = GROUPS, lost: int = 0) -> Figure:
    rows = [
        SummaryRow(
            "x",
            "cpu",
            {"pretraining": start, "budget": group.budget, "train_size": group.size},
            group.metric,
            "fraction",
            t_interval([value + 0.1 * index + 0.01 * seed for seed in range(seeds)]),
            lost if start == "mae" else 0,
        )
        for index, group in enumerate(groups)
        for start, value in STARTS.items()
        if seeds and not ("@" in start and group.budget == "steps" and group.size == 49000)
    ]
    curves = [groups[0], *groups[2:]]
    return pretraining_figure(
        rows,
        VERDICTS,
        origins=ORIGINS,
        groups=groups,
        lengths=LENGTHS,
        curves=curves,
        preset="cpu",
        notes=["pre-training takes 1,200 steps on 49,000 images, fine-tuning 300; " * 3],
        width=width,
    )


def written(found: Figure) -> str:
    return " ".join(text.get_text() for text in found.findobj(Text))


@pytest.mark.parametrize("width", [5.5, 7.0, 3.25])
@pytest.mark.parametrize("seeds", [0, 1, 5])
def test_no_text_overlaps_another_or_leaves_the_page(seeds: int, width: float) -> None:
    if width > 4.5:
        assert_apart(drawn(seeds, width))
    else:
        with on_page(VENUES["cvpr"], width):  # a single column has no words below
            assert_apart(drawn(seeds, None))


def test_the_panels_show_ours_and_the_paper_s_numbers() -> None:
    found = drawn(3)
    dots = {axes.get_title(loc="left"): axes for axes in found.axes}
    names = [name.replace("\n", " ") for name in dots]
    assert names == [
        "(a) Fine-tuned, 100 labels [%]",
        "(b) Fine-tuned, 49,000 labels [%]",
        "(c) 5-shot, frozen [%]",
        "(d) Linear, frozen [%]",
        "(f) Paper: ImageNet [%]",
        "(e) Accuracy against steps of pre-training [%]",
    ]
    first, *_, paper, curves = found.axes
    marks = [line.get_xdata()[0] for line in first.lines if line.get_marker() != "None"]
    assert marks == pytest.approx([41, 61, 51, 53])
    assert [tick.get_text() for tick in first.get_yticklabels()] == [item.label for item in ORIGINS]
    assert [line.get_xdata()[0] for line in paper.lines if line.get_marker() != "None"] == pytest.approx(
        [77.9, 79.9, 83.9]
    )
    lines = {line.get_label(): line for line in curves.lines if line.get_marker() != "None"}
    assert list(lines) == ["fine-tuned, 100 labels", "5-shot, frozen", "linear, frozen"]
    assert list(lines["5-shot, frozen"].get_ydata()) == pytest.approx([63, 68, 71])
    assert [line.get_ydata()[0] for line in curves.lines if line.get_marker() == "None"] == pytest.approx([41, 61, 71])


def test_the_words_below_say_what_is_shown() -> None:
    text = written(drawn(3, lost=2))
    for words in ("3 seeds", "95 % t interval", "dashed: without pre-training", "+21.0", "diverged runs left out"):
        assert words in text
    assert "one seed, no interval" in written(drawn(1)).lower()


def test_what_was_not_measured_is_said() -> None:
    assert written(drawn(0)).count("not measured") == 5
    only = drawn(3, groups=GROUPS[:1])
    assert len(only.axes) == 3
