"""That a figure can be read: no text on another, none beyond the page."""

from __future__ import annotations

import itertools

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text


def assert_apart(found: Figure, slack: float = 1.5) -> None:
    """Fails if text leaves the figure, or two texts share more than `slack` pixels (at 100 dots an inch) both ways."""
    canvas = FigureCanvasAgg(found)
    canvas.draw()
    texts = [text for text in found.findobj(Text) if text.get_visible() and text.get_text().strip()]
    boxes = [(text.get_text(), text.get_window_extent(canvas.get_renderer())) for text in texts]
    for text, box in boxes:
        assert found.bbox.x0 <= box.x0, text
        assert box.x1 <= found.bbox.x1, text
        assert found.bbox.y0 <= box.y0, text
        assert box.y1 <= found.bbox.y1, text
    for (text, box), (other, second) in itertools.combinations(boxes, 2):
        wide = min(box.x1, second.x1) - max(box.x0, second.x0)
        high = min(box.y1, second.y1) - max(box.y0, second.y0)
        assert min(wide, high) < slack, (text, other)  # descenders may touch
