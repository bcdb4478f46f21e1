"""How models look: by name alone, told apart without colour."""

import itertools
import re

import pytest
from matplotlib.colors import to_rgb

from vision_repro.figures.appearance import appearance, size_order

TOGETHER = (
    ("vit-32x4/2", "vit-64x4/2", "bit-r11x0.15", "bit-r11x0.3125", "r8x0.25+vit-64x3/2"),
    ("vit-64x4/4", "vit-128x4/4", "bit-r11x0.3125/2", "bit-r14x0.3125/2", "r8x0.25/2+vit-64x3/4"),
    ("vit-s/16", "vit-b/16", "bit-r50x1", "bit-r50x2", "r50+vit-b/16"),
    ("ViT-B/16", "ViT-B/32", "ViT-L/16", "ViT-L/32", "ViT-H/14"),
    ("vit-l/16", "vit-l/32", "vit-b/32", "vit-b-half/32", "bit-r50x1", "bit-r152x2"),
)


def grey(color: str) -> float:
    red, green, blue = to_rgb(color)
    return 0.299 * red + 0.587 * green + 0.114 * blue


@pytest.mark.parametrize("models", TOGETHER)
def test_models_of_one_figure_differ_without_colour(models: tuple[str, ...]) -> None:
    for first, second in itertools.combinations(map(appearance, models), 2):
        assert (first.marker, first.face == "white") != (second.marker, second.face == "white")
        assert first.label != second.label


@pytest.mark.parametrize("models", TOGETHER)
def test_equal_lines_differ_in_grey_or_in_marker_shape(models: tuple[str, ...]) -> None:
    for first, second in itertools.combinations(map(appearance, models), 2):
        if first.linestyle == second.linestyle:
            assert first.marker != second.marker
            assert first.color == second.color or abs(grey(first.color) - grey(second.color)) > 0.1


def test_lines_are_visible_on_paper() -> None:
    assert all(grey(appearance(model).color) < 0.75 for model in itertools.chain(*TOGETHER))


def test_families_differ_in_line_style() -> None:
    vit, bit, hybrid = (appearance(model).linestyle for model in ("vit-64x4/2", "bit-r11x0.3125", "r8x0.25+vit-64x3/2"))
    assert len({str(vit), str(bit), str(hybrid)}) == 3


def test_spelling_of_the_paper_is_the_same_model() -> None:
    assert appearance("ViT-B/16") == appearance("vit-b/16")
    assert appearance("vit-b/16").label == "ViT-B/16"
    assert appearance("r50+vit-b/16").label == "R50+ViT-B/16"
    assert appearance("bit-r152x2").label == "BiT-R152×2"  # noqa: RUF001


def test_unknown_models_have_a_look_of_their_own_name() -> None:
    assert appearance("lenet-5") == appearance("lenet-5")
    assert appearance("lenet-5").label == "lenet-5"
    assert appearance("vit-huge/16").label == "vit-huge/16"


def test_every_size_has_a_look() -> None:
    for width, depth in itertools.product((16, 64, 192, 384, 1280, 1664), (1, 12, 48)):
        assert re.fullmatch("#[0-9A-F]{6}", appearance(f"vit-{width}x{depth}/16").color)
    for depth, wide in itertools.product((8, 50, 200), (0.1, 1, 4)):
        assert appearance(f"bit-r{depth}x{wide}").marker


def test_order_is_family_then_size() -> None:
    models = [*TOGETHER[0], "lenet-5"]
    assert sorted(reversed(models), key=size_order) == models
    assert sorted(["bit-r101x3", "bit-r50x3", "bit-r50x1"], key=size_order) == ["bit-r50x1", "bit-r50x3", "bit-r101x3"]
