"""The site as files: numbers, links, escaping, verdict counts, what is skipped, and the command line."""

import csv
import html
import importlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml

from vision_repro.config import UserError
from vision_repro.report.__main__ import main
from vision_repro.report.catalogue import catalogue, parse_header
from vision_repro.report.claims import WORDS
from vision_repro.report.found import scan
from vision_repro.report.site import build

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = "<script>alert(1)</script>\"'&`$x$"
VOID = {"meta", "link", "img", "input", "br"}


class Page(HTMLParser):
    """What a test asks of a page: elements with their attributes, text, and whether the tags are balanced."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str, name: str = "") -> list[dict[str, str | None]]:
        return [found for kind, found in self.elements if kind == tag and name in (found.get("class") or "").split(" ")]


def pages(out: Path) -> dict[str, Page]:
    return {file.name: Page(file.read_text(encoding="utf-8")) for file in sorted(out.glob("*.html"))}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the committed evidence alone."""
    out = tmp_path_factory.mktemp("report") / "site"
    build(ROOT / "results", out.parent / "no outputs", out)
    return out


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of one folder of evidence, to be broken."""
    folder = tmp_path / "results" / "data_scaling" / "cpu"
    shutil.copytree(ROOT / "results" / "data_scaling" / "cpu", folder)
    return folder


def report(tmp_path: Path, **options: Any) -> tuple[dict[str, Page], tuple[str, ...]]:
    built = build(tmp_path / "results", tmp_path / "outputs", tmp_path / "site", **options)
    return pages(tmp_path / "site"), built.warnings


# --- the committed evidence ---


@pytest.mark.parametrize("preset", ["cpu", "cifar"])
def test_numbers_are_those_of_the_tables(site: Path, preset: str) -> None:
    page = pages(site)[f"data_scaling-{preset}.html"]
    found = rows(ROOT / "results" / "data_scaling" / preset / "summary.csv")
    assert len(found) > 50
    for row in found:
        factor, form = (100, "{:.1f}") if row["unit"] == "fraction" else (1, "{:.5g}")
        mean, low, high = (form.format(factor * float(row[name])) for name in ("mean", "low", "high"))
        assert f"{mean} [{low}, {high}]" in page.text
        spot = f"{row['model']}, train_size={row['train_size']}: {mean} % [{low}, {high}], {row['n']} seeds"
        drawn = [point["aria-label"] for point in page.all("g", "point")]
        assert row["metric"] not in ("test_accuracy", "few_shot_5") or spot in drawn


def test_every_verdict_is_listed_once_and_counted(site: Path) -> None:
    index = pages(site)["index.html"]
    judged: Counter[str] = Counter()
    for file in sorted((ROOT / "results").glob("*/*/verdicts.json")):
        items = json.loads(file.read_text())
        if file.parent.name != "smoke":
            judged.update(item["verdict"] for item in items)
            assert all(" ".join(html.unescape(item["statement"]).split()) in index.text for item in items)
    listed = Counter(row["data-verdict"] for row in index.all("tr", "claim"))
    assert {word: listed[word] for word in WORDS[:-1]} == {word: judged[word] for word in WORDS[:-1]}
    for word in WORDS:
        assert f"{listed[word]} {word}" in index.text


def test_an_experiment_without_evidence_is_listed_as_not_run(copied: Path, tmp_path: Path) -> None:
    shutil.rmtree(copied)
    found, _ = report(tmp_path)
    claims = found["index.html"].all("tr", "claim")
    assert claims
    assert {row["data-verdict"] for row in claims} == {"not run"}
    assert "0 holds" in found["index.html"].text
    assert list(found) == ["index.html"]


def test_links_resolve_and_leave_no_folder(site: Path) -> None:
    for name, page in pages(site).items():
        ids = [found["id"] for _, found in page.elements if found.get("id")]
        assert len(ids) == len(set(ids)), name
        for tag, found in page.elements:
            address = found.get("href") or found.get("xlink:href") or found.get("src") or ""
            if tag in ("a", "img", "use") and address.startswith("#"):
                assert address[1:] in ids, (name, address)
            elif tag in ("a", "img"):
                assert not re.match(r"[a-z]+:|/", address), address
                assert (site / unquote(address)).is_file(), address


def test_pages_are_made_for_everyone(site: Path) -> None:
    titles = set()
    for name, page in pages(site).items():
        kinds = Counter(tag for tag, _ in page.elements)
        assert kinds["h1"] == kinds["main"] == kinds["html"] == 1, name
        assert page.all("html")[0]["lang"] == "en"
        assert page.all("a", "skip")[0]["href"] == "#main"
        assert all(found.get("alt") for found in page.all("img"))
        assert all(found.get("scope") for found in page.all("th"))
        assert all(found.get("aria-label") for found in page.all("svg", "chart"))
        levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
        assert all(after - before <= 1 for before, after in itertools.pairwise(levels)), name
        titles.add(re.search("<title>(.*)</title>", (site / name).read_text())[1])  # type: ignore[index]
    assert len(titles) == len(pages(site))


def luminance(color: str) -> float:
    full = color if len(color) == 7 else "#" + "".join(2 * letter for letter in color[1:])
    parts = [int(full[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_colours_have_the_contrast_of_wcag_aa() -> None:
    text = (ROOT / "vision_repro" / "report" / "templates" / "style.css").read_text()
    blocks = [dict(re.findall(r"--([\w-]+): (#\w+)", block)) for block in re.findall(r":root \{(.*?)\}", text, re.S)]
    assert len(blocks) == 3
    for extra in blocks:
        colors = {**blocks[0], **extra}
        pairs = [(front, back) for front in ("ink", "soft", "accent") for back in ("paper", "tint")]
        pairs += [(word, f"{word}-bg") for word in ("holds", "fails", "undecided", "untested")]
        for front, back in [*pairs, ("not-run", "paper"), ("ink", "undecided-bg")]:
            dark, light = sorted((luminance(colors[front]), luminance(colors[back])))
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (front, back)


def test_the_papers_table_is_redrawn_with_its_printed_digits(site: Path) -> None:
    page = pages(site)["data_scaling-cifar.html"]
    drawn = {point["aria-label"] for point in page.all("g", "point")}
    assert "ViT-H/14 pre-trained on JFT-300M: 88.04 % (paper)" in drawn
    assert "ViT-B/16 pre-trained on ImageNet: 98.13 % (paper)" in drawn  # CIFAR-10, the data set of this preset


def test_same_bytes_twice(site: Path, tmp_path: Path) -> None:
    build(ROOT / "results", tmp_path / "no outputs", tmp_path / "again")
    first = {path.relative_to(site): path.read_bytes() for path in site.rglob("*") if path.is_file()}
    second = {
        path.relative_to(tmp_path / "again"): path.read_bytes()
        for path in (tmp_path / "again").rglob("*")
        if path.is_file()
    }
    assert first == second


# --- what a folder may hold ---


def test_hostile_names_are_text_and_nothing_else(copied: Path, tmp_path: Path) -> None:
    table = (copied / "table.csv").read_text()
    quoted = '"' + HOSTILE.replace('"', '""') + '"'
    (copied / "table.csv").write_text(table.replace("vit-32x4/2", quoted).replace("data_scaling,", f"{quoted},"))
    verdicts = json.loads((copied / "verdicts.json").read_text())
    for item in verdicts:
        item |= {"statement": HOSTILE, "source": HOSTILE, "reason": HOSTILE, "paper": HOSTILE}
    (copied / "verdicts.json").write_text(json.dumps(verdicts))
    (copied / "config.yaml").write_text(yaml.safe_dump({"preset": HOSTILE, "base": {HOSTILE: HOSTILE}}))
    (copied / "provenance.json").write_text(json.dumps({"commit": HOSTILE, HOSTILE: [HOSTILE], "command": HOSTILE}))
    evil = tmp_path / "results" / "<img src=x onerror=alert(1)>"
    copied.parent.rename(evil)
    (evil / "cpu").rename(evil / "' onload='alert(1)")
    (tmp_path / "outputs" / "<b>junk").mkdir(parents=True)
    found, warnings = report(tmp_path)
    assert len(found) == 2
    for page in found.values():
        kinds = Counter(tag for tag, _ in page.elements)
        assert kinds["script"] == 1
        assert not any(name.startswith("on") for _, values in page.elements for name in values)
        assert all((values["src"] or "").startswith("files/") for values in page.all("img"))
        assert HOSTILE.split("`")[0] in "".join(page.words)
    assert any("<b>junk" in line for line in warnings)


def test_half_written_and_foreign_folders_are_named_and_skipped(copied: Path, tmp_path: Path) -> None:
    for name, content in {"cut": "experiment,preset,run\n", "columns": "a,b\n1,2\n", "bytes": "\xff"}.items():
        (copied.parent / name).mkdir()
        (copied.parent / name / "table.csv").write_bytes(content.encode("latin1"))
    (copied.parent / "empty").mkdir()
    (tmp_path / "results" / "foreign").mkdir()
    (tmp_path / "outputs" / "runs" / "0123").mkdir(parents=True)
    (tmp_path / "outputs" / "half" / "cpu").mkdir(parents=True)
    (tmp_path / "outputs" / "half" / "cpu" / "table.csv").write_text((copied / "table.csv").read_text()[:5001])
    found, warnings = report(tmp_path)
    broken = ["columns", "cut", "bytes", "empty"]
    expected = [*(f"results/data_scaling/{name}" for name in broken), "results/foreign", "outputs/half/cpu"]
    for name in expected:
        assert sum(line.startswith(f"{name} is skipped") for line in warnings) == 1, name
        assert name in found["index.html"].text
    assert len(warnings) == len(expected)
    assert str(tmp_path) not in found["index.html"].text
    assert len(found) == 2


def test_what_is_missing_beside_the_table_is_said(copied: Path, tmp_path: Path) -> None:
    for file in copied.iterdir():
        if file.name != "table.csv":
            file.unlink()
    (copied / "config.yaml").write_text("{")
    (copied / "verdicts.json").write_text('[{"verdict": "proven"}, 3, null]')
    found, _ = report(tmp_path)
    text = found["data_scaling-cpu.html"].text
    assert "No figure stands in this folder." in text
    assert "config.yaml cannot be read: was it cut off?" in text
    assert text.count("is not a verdict and was left out") == 3
    assert "No claim was judged here" in text
    assert "56.9 [53.6, 60.2]" in text


def test_smoke_is_never_evidence(copied: Path, tmp_path: Path) -> None:
    config = yaml.safe_load((copied / "config.yaml").read_text())
    (copied / "config.yaml").write_text(yaml.safe_dump(config | {"preset": "smoke"}))
    found, _ = report(tmp_path)
    assert {row["data-verdict"] for row in found["index.html"].all("tr", "claim")} == {"not run"}
    text = found["data_scaling-cpu.html"].text
    assert "14 untested" in text
    assert " holds" not in text.partition("Figure")[0].partition("Claims")[2]


def test_letters_that_no_file_can_hold_and_numbers_that_are_none(copied: Path, tmp_path: Path) -> None:
    verdicts = json.loads((copied / "verdicts.json").read_text())
    verdicts[0]["statement"] = "lone \ud800 and \x01 here"
    verdicts[1]["estimate"] |= {"mean": None, "low": None, "high": None, "n": 0}
    verdicts[2]["estimate"]["n"] = float("inf")
    (copied / "verdicts.json").write_text(json.dumps(verdicts))
    head = "experiment,preset,run,seed,status,metric,value,unit\n"
    (copied / "table.csv").write_text(head + "x,cpu,r,0,ok,speed,1,\nx,cpu,r,0,ok,lost,nan,nats\n")
    found, warnings = report(tmp_path)
    page = found["data_scaling-cpu.html"]
    assert "lone \\ud800 and" in page.text
    assert "no value" in page.text
    assert "all settings 1 (one seed)" in page.text
    assert "not measured" in page.text
    assert page.text.count("is not a verdict and was left out") == 1
    assert warnings == ()


def test_no_experiment_and_no_result_make_a_clear_page(tmp_path: Path) -> None:
    found, warnings = report(tmp_path, package="no_such_package")
    assert list(found) == ["index.html"]
    assert "nothing was run" in found["index.html"].text
    assert "No experiment is here." in found["index.html"].text
    assert len(warnings) == 1


def test_the_same_table_in_both_folders_appears_once(copied: Path, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "results", tmp_path / "outputs")
    found, warnings = scan(tmp_path / "results", tmp_path / "outputs")
    assert [result.origin for result in found] == ["results"]
    (tmp_path / "outputs" / "data_scaling" / "cpu").rename(tmp_path / "outputs" / "data_scaling" / "cpu,seeds=5")
    found, _ = scan(tmp_path / "results", tmp_path / "outputs")
    assert len({result.slug for result in found}) == 2
    assert warnings == []


def test_learning_curves_and_tracked_runs(copied: Path, tmp_path: Path) -> None:
    first, second = list(dict.fromkeys(row["run"] for row in rows(copied / "table.csv")))[:2]
    runs = tmp_path / "outputs" / "runs"
    for run, curve in ((first, "step,train_loss,val_accuracy\n10,2.0,0.25\n20,1.0,0.75\n"), (second, "step\nx\n")):
        (runs / run).mkdir(parents=True)
        (runs / run / "metrics.csv").write_text(curve)
    (runs / first / "provenance.json").write_text('{"wandb_url": "https://wandb.ai/a/b/runs/c"}')
    (runs / second / "provenance.json").write_text('{"wandb_url": "javascript:alert(1)"}')
    page = report(tmp_path)[0]["data_scaling-cpu.html"]
    drawn = [point["aria-label"] or "" for point in page.all("g", "point")]
    assert [text for text in drawn if "at step" in text] == [
        "vit-32x4/2, train_size=20, seed 0: 75 % at step 20",
        "vit-32x4/2, train_size=20, seed 0: 1 at step 20",
    ]
    assert "1 of 125 runs" in page.text
    outside = [found["href"] for found in page.all("a") if ":" in (found["href"] or "")]
    assert outside == ["https://wandb.ai/a/b/runs/c"]


def test_settings_without_a_number_are_shown_as_dots(copied: Path, tmp_path: Path) -> None:
    head = "experiment,preset,run,kind,seed,status,metric,value,unit\n"
    lines = [f"x,cpu,r{kind}{seed},{kind},{seed},ok,speed,{seed + 2},img/s\n" for kind in "ab" for seed in range(3)]
    (copied / "table.csv").write_text(head + "".join(lines))
    (copied / "verdicts.json").unlink()
    page = report(tmp_path)[0]["data_scaling-cpu.html"]
    drawn = [point["aria-label"] for point in page.all("g", "point")]
    assert drawn[:2] == [f"kind={kind}: 3 img/s [0.51586, 5.4841], 3 seeds" for kind in "ab"]


def test_costs_have_a_page_where_they_were_written(tmp_path: Path) -> None:
    from vision_repro.accounting.check import COLUMNS

    tables = tmp_path / "outputs" / "tables"
    tables.mkdir(parents=True)
    line = ["toy", "conv1", "parameters", "", "23232", "23200", "1.001379", "exact", "explained", HOSTILE, "AlexNet"]
    (tables / "toy.csv").write_text(",".join(COLUMNS) + "\n" + ",".join(f'"{c.replace(chr(34), "")}"' for c in line))
    (tables / "other.csv").write_text("a,b\n")
    (tables / "toy.md").write_text("# A toy\n")
    found, warnings = report(tmp_path)
    assert "A toy 0 1 0" in found["costs.html"].text
    assert "23,232 23200 1.001379 exact explained <script>" in found["costs.html"].text
    assert [line for line in warnings if "other.csv" in line]


# --- the catalogue ---


def test_pages_of_the_attention_explorer_are_linked(tmp_path: Path) -> None:
    (tmp_path / "outputs" / "explorer").mkdir(parents=True)
    (tmp_path / "outputs" / "explorer" / "vit & co.html").write_text("<p>a page of its own")
    build(tmp_path / "none", tmp_path / "outputs", tmp_path / "site")
    front = Page((tmp_path / "site" / "index.html").read_text())
    (address,) = [
        attributes["href"] for tag, attributes in front.elements if "explorer" in (attributes.get("href") or "")
    ]
    assert (tmp_path / "site" / unquote(address or "")).read_text() == "<p>a page of its own"
    assert "Attention of vit & co" in "".join(front.words)


def test_header_of_an_experiment_is_read() -> None:
    facts, deviations = parse_header(
        "Title.\n\npaper     A paper (ViT, x),\n          Table 5\ncost      cheap\n\nProse.\n"
        "Deviation: ours instead of theirs;\n    because.\nDeviation: two.\n"
    )
    assert facts == {"paper": "A paper (ViT, x), Table 5", "cost": "cheap"}
    assert deviations == ("ours instead of theirs; because.", "two.")


def test_every_experiment_is_in_the_catalogue() -> None:
    entries, warnings = catalogue()
    files = [path.stem for path in (ROOT / "experiments").glob("*.py") if not path.stem.startswith("_")]
    assert [entry.name for entry in entries] == sorted(files)
    assert warnings == []
    scaling = next(entry for entry in entries if entry.name == "data_scaling")
    assert [scale.runs for scale in scaling.scales if scale.name == "cpu"] == [125]
    assert len(scaling.claims) == 14
    assert len(scaling.deviations) >= 3


def test_a_broken_experiment_does_not_take_the_others_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "toy_experiments"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "broken.py").write_text("raise RuntimeError('no <way>')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    entries, warnings = catalogue("toy_experiments")
    assert entries == []
    assert warnings == ["The experiment broken cannot be listed (RuntimeError: no <way>)."]


# --- the command line ---


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--resluts=x"], 'report: --resluts is unknown. Did you mean "results"? See --help for all options.'),
        (["x"], 'report: "x" is not an option: expected --key=value.'),
        (["--out="], "report: --out takes one folder, whose name has no comma."),
        (["--out=a,b"], "report: --out takes one folder, whose name has no comma."),
    ],
)
def test_bad_words_are_one_sentence(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert capsys.readouterr().err == f"{message}\n"


def test_no_folder_of_others_is_replaced(copied: Path, tmp_path: Path) -> None:
    for out in (tmp_path / "results", tmp_path, copied / "table.csv"):
        with pytest.raises(UserError, match="expected a"):
            build(tmp_path / "results", tmp_path / "outputs", out)
    assert (copied / "table.csv").is_file()


def test_an_earlier_report_is_replaced_whole(copied: Path, tmp_path: Path) -> None:
    report(tmp_path)
    shutil.rmtree(copied.parent)
    (tmp_path / "outputs").mkdir()
    build(tmp_path / "results", tmp_path / "outputs", tmp_path / "outputs" / "elsewhere")
    found, warnings = report(tmp_path)
    assert list(found) == ["index.html"]
    assert warnings == ()
    shutil.rmtree(tmp_path / "outputs")
    assert not (tmp_path / "site" / "files").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results", "site"]


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main([f"--results={tmp_path}/r", f"--outputs={tmp_path}/o", f"--out={tmp_path}/file/site"]) == 2
    assert re.fullmatch(r'report: ".*" cannot be written \(.*\): .*\n', capsys.readouterr().err)


def test_the_report_imports_no_torch(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom vision_repro.report.__main__ import main\n"
        f"assert main(['--outputs={tmp_path}/none', '--out={tmp_path}/site']) == 0\n"
        "heavy = {'torch', 'torchvision', 'lightning', 'timm', 'wandb'} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"Report: {tmp_path}/site/index.html"


def test_pictures_of_masked_images_stand_beside_the_figure_where_there_are_any(copied: Path, tmp_path: Path) -> None:
    name = "data_scaling-cpu.html"
    before, _ = report(tmp_path)
    assert not any("pictures" in (found.get("src") or "") for found in before[name].all("img"))
    shutil.copy(copied / "figure.svg", copied / "pictures.svg")
    after, _ = report(tmp_path)
    shown = [found for found in after[name].all("img") if "pictures.svg" in (found.get("src") or "")]
    assert len(shown) == 1
    assert (tmp_path / "site" / str(shown[0]["src"])).read_bytes() == (copied / "figure.svg").read_bytes()
