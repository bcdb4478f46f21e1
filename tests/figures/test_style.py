"""The style: the same bytes, embedded fonts, whole files, and lines that fit."""

from pathlib import Path

import matplotlib
import pytest
from matplotlib.figure import Figure

from vision_repro.figures.style import save, style, text_width, wrap


def drawn() -> Figure:
    with style():
        figure = Figure(figsize=(2, 1.5))
        axes = figure.add_subplot()
        axes.plot([1, 10], [20, 30], label="ViT")
        axes.set_title("accuracy [%] of 8×8")  # noqa: RUF001
        axes.legend()
    return figure


def test_two_renders_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = save(drawn(), tmp_path / "a" / "plot.v1"), save(drawn(), tmp_path / "b" / "plot.v1")
    assert [path.name for path in first] == ["plot.v1.pdf", "plot.v1.svg", "plot.v1.png"]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted(path.name for path in first)


def test_the_settings_outside_change_nothing(tmp_path: Path) -> None:
    plain = save(drawn(), tmp_path / "plain")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "none", "savefig.dpi": 20}):
        changed = save(drawn(), tmp_path / "changed")
        assert matplotlib.rcParams["font.size"] == 30
    for one, other in zip(plain, changed, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_fonts_are_embedded_and_files_have_no_date(tmp_path: Path) -> None:
    pdf, svg, _ = save(drawn(), tmp_path / "plot")
    content = pdf.read_bytes()
    assert b"/FontFile2" in content  # TrueType, embedded
    assert b"/Type3" not in content
    assert b"STIXGeneral" in content
    assert b"CreationDate" not in content
    text = svg.read_text()
    assert "<text" not in text  # glyphs are outlines
    assert "dc:date" not in text


def test_a_failed_save_leaves_the_old_file_and_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pdf = save(drawn(), tmp_path / "plot")[0]
    before = pdf.read_bytes()

    def full(self: Figure, path: Path, **_: object) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(OSError, match="disk full"):
        save(drawn(), tmp_path / "plot")
    assert pdf.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 3


def test_wrapped_lines_fit_and_lose_no_word() -> None:
    text = "ViT minus BiT at 20 images: +1.2 [+0.3, +2.1] percentage points, 5 seeds; $ and % are signs. " * 3
    lines = wrap(text, 7, 3.0)
    assert " ".join(lines) == " ".join(text.split())
    assert all(text_width(line, 7) <= 3.0 for line in lines)
    assert len(lines) > 3
    assert wrap("", 7, 3.0) == [""]
    assert wrap("Donaudampfschifffahrtsgesellschaft", 7, 0.1) == ["Donaudampfschifffahrtsgesellschaft"]
