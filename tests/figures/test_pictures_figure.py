"""Pictures of masked images: each at its place, nothing smoothed, nothing overlapping."""

import itertools

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from vision_repro.figures.pictures import Pictures, pictures_figure

TITLES = (
    "mean colour, 50 %",
    "downsized",
    "pixels: a title that is far too long to stand on one line above a block",
    "MAE",
)


def block(title: str, count: int = 3, side: int = 8) -> Pictures:
    parts = np.random.default_rng(len(title)).integers(0, 256, (3, count, 3, side, side), dtype=np.uint8)
    return Pictures(title, *parts)


def texts(figure: Figure) -> list[Text]:
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]


@pytest.mark.parametrize("count", range(5))
@pytest.mark.parametrize("width", [3.25, 5.5, 7.0])
def test_nothing_overlaps_or_leaves_the_page(count: int, width: float) -> None:
    found = pictures_figure([block(title) for title in TITLES[:count]], notes=["what this is; " * 12], width=width)
    found.set_dpi(300)  # as it is saved
    canvas = FigureCanvasAgg(found)
    canvas.draw()
    boxes = [(item.get_text(), item.get_window_extent(canvas.get_renderer())) for item in texts(found)]
    boxes += [(f"pictures {number}", axes.get_window_extent()) for number, axes in enumerate(found.axes)]
    for text, box in boxes:
        assert found.bbox.x0 <= box.x0, text
        assert box.x1 <= found.bbox.x1 + 1e-6, text
        assert found.bbox.y0 <= box.y0, text
        assert box.y1 <= found.bbox.y1, text
    for (text, box), (other, second) in itertools.combinations(boxes, 2):
        wide = min(box.x1, second.x1) - max(box.x0, second.x0)
        high = min(box.y1, second.y1) - max(box.y0, second.y0)
        assert min(wide, high) < 4.5, (text, other)


def test_a_row_is_image_masked_prediction() -> None:
    shown = block("MAE", 2)
    found = pictures_figure([shown])
    drawn = found.axes[0].images
    assert len(drawn) == 6
    for number, image in enumerate(drawn):
        column, row = divmod(number, 2)
        part = (shown.images, shown.masked, shown.predicted)[column]
        assert np.array_equal(image.get_array(), np.moveaxis(part[row], 0, -1))
        left, right, bottom, top = image.get_extent()
        assert (left, top) == pytest.approx((1.05 * column, 1.05 * row))
        assert (right - left, bottom - top) == pytest.approx((1, 1))
    box = drawn[0].get_window_extent()
    assert box.width == pytest.approx(box.height)
    words = [text.get_text() for text in texts(found)]
    assert words[:4] == ["MAE", "image", "masked", "prediction"]


def test_headings_stand_over_their_columns() -> None:
    found = pictures_figure([block("a"), block("b")])
    canvas = FigureCanvasAgg(found)
    canvas.draw()
    for number, axes in enumerate(found.axes):
        heads = [text for text in texts(found) if text.get_text() in ("image", "masked", "prediction")]
        for column, text in enumerate(heads[3 * number : 3 * number + 3]):
            box, picture = text.get_window_extent(), axes.images[3 * column].get_window_extent()
            assert (box.x0 + box.x1) / 2 == pytest.approx((picture.x0 + picture.x1) / 2, abs=1)
