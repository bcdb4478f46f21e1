"""Every published cost beside ours: one computation, and all that follows from it."""

import csv
import math
from pathlib import Path

import pytest
import torch

from vision_repro import models
from vision_repro.accounting.architectures import architectures_markdown, counted
from vision_repro.accounting.check import EXACT, Check, Table
from vision_repro.accounting.flops import forward_flops, training_flops
from vision_repro.published import tables as module
from vision_repro.published.exaflops import EXPLAINED, JFT_CLASSES, JFT_IMAGES, exaflops, macs_with_classes, our_name
from vision_repro.published.training_cost import TPU, plans
from vision_repro.published.windows import points

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


@pytest.fixture(scope="module")
def tables(out: Path) -> dict[str, Table]:
    return {table.name: table for table in module.make_all(out)}


def read(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(file.read_text().splitlines()))


def value(table: Table, subject: str, quantity: str) -> Check:
    (found,) = [check for check in table.checks if (check.subject, check.quantity) == (subject, quantity)]
    return found


def test_every_number_is_inside_its_band_or_explained(tables: dict[str, Table]) -> None:
    for table in tables.values():
        for check in table.checks:
            assert check.verdict != "outside", (table.name, check)
    assert sum(len(table.checks) for table in tables.values()) > 400


def test_what_is_explained_is_known(tables: dict[str, Table]) -> None:
    """No explanation for a number that is right, and none that grew in silence."""
    found = {
        (table.name, check.subject, check.quantity)
        for table in tables.values()
        for check in table.checks
        if check.verdict == "explained"
    }
    mine = {(name, subject, quantity) for name, subject, quantity in found if name != "architectures_checked"}
    assert mine == {
        ("alexnet_64", "conv4", "operations"),
        *(("alexnet_64", name, "parameters") for name in ("fc6", "fc7", "fc8")),
        ("alexnet_96", "total, rows read literally", "parameters"),
        ("googlenet", "fc", "memory"),
        ("vgg", "padding of the 3x3 convolutions", "largest padding"),
        ("vgg", "channels after each pool", "largest growth"),
        ("vit_table1", "ViT-B/32", "parameters, as printed"),
        ("vit_table6", "ViT-B/32, 7 epochs", "inside taps"),
        ("vit_table6", "R50x1+ViT-L/16, 7 epochs", "inside taps"),
        ("swin", "Swin-T, 224 px", "parameters, printed"),
        ("cost", "ViT-H/14 on JFT", "price"),
    }
    theirs = {subject for name, subject, _ in found if name == "architectures_checked"}
    assert theirs == {f"{name}, {size} px" for name, size in EXPLAINED}


def test_alexnet_of_the_slides(tables: dict[str, Table]) -> None:
    table = tables["alexnet_64"]
    assert len({check.subject for check in table.checks}) == 13
    conv4 = value(table, "conv4", "operations")
    assert (conv4.ours, conv4.published) == (149.520384, "145")
    assert value(table, "total", "memory").ours == 2339.15625
    assert value(table, "pool1", "operations").ours == pytest.approx(0.419904)
    assert value(tables["alexnet_96"], "total", "parameters").ours == 62_378_344


def test_googlenets_head_against_vggs(tables: dict[str, Table]) -> None:
    table = tables["googlenet"]
    assert value(table, "stem total", "memory").ours == 7644
    assert value(table, "VGG-16's head, like for like", "parameters").ours == 123_642.856
    assert "121 times" in value(table, "VGG-16's head, like for like", "parameters").note


def test_rules_of_the_slides(tables: dict[str, Table]) -> None:
    rules = {(check.subject, check.quantity): check.ours for check in tables["vgg"].checks}
    assert rules["one 5x5 conv, C to C", "MACs"] == 25
    assert rules["two 3x3 convs, C to C", "MACs"] == 18
    assert rules["one 7x7 conv, C to C", "parameters"] == 49
    assert rules["three 3x3 convs, C to C", "parameters"] == 27
    assert [number for (name, what), number in rules.items() if what == "MACs" and "pool" in name] == [36, 36]
    assert rules["32x32x3 to 28x28x6, six 5x5 filters", "parameters"] == 456
    assert rules["32x32x3 to 28x28x6, a dense layer", "parameters"] == 14.455392
    (share,) = [number for (_, what), number in rules.items() if what == "share of the MACs"]
    assert share == 12_443_648 / 120_422_400


def test_table_6_counts_taps_inside_the_map(tables: dict[str, Table]) -> None:
    table = tables["vit_table6"]
    assert len(table.checks) == 36
    errors = {
        taps: [
            math.log(check.ratio or 0)
            for check in table.checks
            if check.quantity == f"{taps} taps" and not check.subject.startswith("R50x1+ViT-L/16, 7")
        ]
        for taps in ("inside", "all")
    }
    spread = {taps: math.sqrt(sum(log * log for log in logs) / 17) for taps, logs in errors.items()}
    assert spread["inside"] == pytest.approx(0.0072, abs=0.0002)
    assert spread["all"] == pytest.approx(0.0259, abs=0.0002)
    assert math.exp(sum(errors["inside"]) / 17) == pytest.approx(1, abs=0.001)


@pytest.mark.parametrize("model", ["ResNet50x1", "R50x1+ViT-B/32"])
def test_another_head_is_counted_as_if_it_were_built(model: str, tables: dict[str, Table]) -> None:
    with torch.device("meta"):
        built = models.build(our_name(model), image_size=224, classes=JFT_CLASSES)
    for taps in ("all", "inside"):
        found = macs_with_classes(counted(our_name(model), 224), JFT_CLASSES, taps)
        assert 2 * found == forward_flops(built, 224, taps=taps)
    assert (
        exaflops(model, 7, "all")
        == training_flops(2 * macs_with_classes(counted(our_name(model), 224), JFT_CLASSES, "all"), 7 * JFT_IMAGES)
        / 1e18
    )


def test_windows_cost_what_the_equations_say(tables: dict[str, Table]) -> None:
    """The table of ratios at 224 pixels: 13.8, 2.70, 1.18 and 1."""
    assert all(check.band == EXACT for check in tables["swin_windows"].checks)
    ratios = [point.whole / point.windowed for point in points() if point.image_size == 224]
    assert ratios == pytest.approx([13.809, 2.697, 1.180, 1.0], abs=0.001)
    first = [point for point in points() if point.stage == 0]
    assert first[1].windowed == 4 * first[0].windowed
    assert first[1].whole > 15 * first[0].whole


def test_files(tables: dict[str, Table], out: Path) -> None:
    names = {path.name for path in out.iterdir()}
    assert {f"{name}.{kind}" for name in tables for kind in ("csv", "md")} <= names
    for stem in ("swin_windows", "vit_table6", "alexnet_64"):
        assert {f"{stem}.{kind}" for kind in ("pdf", "svg", "png")} <= names
    rows = [row for name in tables for row in read(out / f"{name}.csv")]
    assert len(rows) == sum(len(table.checks) for table in tables.values())
    assert {row["verdict"] for row in rows} == {"inside", "explained"}
    assert "printed 145 M, counted 149.520384 M" in (out / "summary.md").read_text()


def test_architectures_for_the_readme(tables: dict[str, Table], out: Path) -> None:
    text = (out / "architectures.md").read_text()
    assert text == architectures_markdown()
    assert "| `vit-b/16` | 224 | 86,567,656 | 17.564 |  | ViT, Table 1; counted |" in text
    assert text.count("\n| `") == len(models.published())


def test_plans(tables: dict[str, Table], out: Path) -> None:
    rows = [row for row in plans() if row["device"] == TPU and row["run"].startswith("ViT-H/14")]
    # 4259 exaFLOPs on cores of 61.5 TFLOP/s at 40 %
    assert int(rows[0]["device_days"]) == pytest.approx(4258.6e18 / (61.5e12 * 0.4) / 86400, abs=1)
    assert len(read(out / "plans.csv")) == len(plans())
    text = (out / "cost.md").read_text()
    assert (
        "| ViT-H/14, JFT-300M, 14 epochs          |    4,259 |             2,500 |           19.7 |     32% |" in text
    )


def test_the_exit_code_shows_an_unexplained_number(
    tables: dict[str, Table], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = Table("toy", "Toy", "", (Check("layer", "parameters", "", 2, "3", EXACT, "nowhere"),))
    explained = Table("toy", "Toy", "", (Check("layer", "parameters", "", 2, "3", EXACT, "nowhere", "", "misprint"),))
    for table, code in ((wrong, 1), (explained, 0)):
        monkeypatch.setattr(module, "table_builders", lambda table=table: [lambda: table])
        assert module.main([f"--out={tmp_path}"]) == code
        assert (tmp_path / "toy.md").exists()
    printed = capsys.readouterr().out
    assert "- outside: toy, layer, parameters: printed 3, counted 2 (band: exact)." in printed
    assert "- explained: toy, layer, parameters: printed 3, counted 2 (band: exact). misprint" in printed


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (["--ou=x"], 'Did you mean "out"?'),
        (["x"], "is not an option"),
        (["--out=a,b"], "--out takes one value, not 2."),
    ],
)
def test_bad_options(tokens: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert module.main(tokens) == 2
    assert text in capsys.readouterr().err


def test_a_folder_that_cannot_be_written(
    tables: dict[str, Table], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert module.main([f"--out={tmp_path / 'file' / 'tables'}"]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_the_readme_shows_the_table_and_its_count(tables: dict[str, Table]) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    assert architectures_markdown().strip() in readme
    inside, explained = (sum(table.count(verdict) for table in tables.values()) for verdict in ("inside", "explained"))
    assert f"{inside} numbers inside" in readme
    assert f"{explained} outside" in readme
