"""The cost ledger where people see it: on an experiment's page, and in W&B."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from vision_repro.accounting.ledger_lines import Line, to_csv
from vision_repro.launch import wandb_report
from vision_repro.report.site import build

ROOT = Path(__file__).parents[2]
LINES = [
    Line("pre-training", "vit<b>", 2, "H100", 1000, 3 * 10**15, 123.4, 0.415, 0.5, 0.25, 0.8, 2**30, None, 9.83),
    Line("all", "all", 3, "H100", None, None, None, None, None, None, None, None, None, None),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Evidence with a ledger."""
    copied = shutil.copytree(ROOT / "results" / "vit_head" / "cpu", tmp_path / "results" / "vit_head" / "cpu")
    (copied / "ledger.csv").write_text(to_csv(LINES))
    return Path(copied)


def page(folder: Path) -> str:
    site = folder.parents[2] / "site"
    build(folder.parents[1], folder.parents[2] / "outputs", site)
    return (site / "vit_head-cpu.html").read_text()


def test_a_page_shows_the_ledger_and_what_is_not_known_is_empty(folder: Path) -> None:
    text = page(folder)
    section = text[text.index('<h2 id="cost">') :].partition("</section>")[0]
    cells = [part.partition("</t")[0] for part in section.split('<td class="num">')[1:]]
    assert cells == ["2", "3e+15", "1,000", "123", "41.5", "0.5", "0.25", "0.8", "1,024", "9.83", "3", *[""] * 9]
    assert "energy" not in section
    assert "vit&lt;b&gt;" in section
    assert 'href="files/vit_head-cpu/ledger.csv"' in text


def test_a_page_without_a_ledger_has_no_such_section_and_a_broken_one_is_named(folder: Path) -> None:
    (folder / "ledger.csv").write_text("stage\nx\n")
    text = page(folder)
    assert "ledger.csv cannot be read" in text
    assert '<h2 id="cost">' not in text
    (folder / "ledger.csv").unlink()
    text = page(folder)
    assert "ledger" not in text


def test_w_b_gets_the_ledger_as_a_table(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        sys.modules, "wandb", SimpleNamespace(Image=str, Table=lambda columns, data: (tuple(columns), data))
    )
    columns, rows = wandb_report._shown(folder, [])["ledger"]
    assert rows[0][columns.index("training_flops")] == 3 * 10**15
    assert [row[columns.index("energy")] for row in rows] == [None, None]
    (folder / "ledger.csv").unlink()
    assert "ledger" not in wandb_report._shown(folder, [])
