"""Figures drawn again from a result: the same bytes by default, every venue's width, and what a mistake says."""

import csv
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from experiments import attention_distance, data_scaling, position_embedding, vit_head
from tests.figures.apart import assert_apart
from vision_repro.config import UserError, plain
from vision_repro.experiment import Experiment, grid
from vision_repro.figures.__main__ import main
from vision_repro.figures.redraw import Drawing, changed_verdicts, read
from vision_repro.figures.venues import DEFAULT, SMALLEST, VENUES, Venue, on_page, page

RESULTS = Path(__file__).parents[2] / "results"
EXPERIMENTS = (data_scaling, position_embedding, vit_head, attention_distance)
KINDS = {".pdf", ".svg", ".png"}
COMMITTED = [
    (module.EXPERIMENT.name, preset)
    for module in EXPERIMENTS
    for preset in module.EXPERIMENT.presets
    if (RESULTS / module.EXPERIMENT.name / preset / "figure.pdf").exists()
]


def result(folder: Path, experiment: Experiment, preset: str = "cpu") -> Path:
    """Writes a result with made-up numbers for every run of the preset."""
    folder.mkdir(parents=True)
    chosen = experiment.presets[preset]
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        settings = experiment.settings
        writer.writerow(["experiment", "preset", "run", *settings, "seed", "status", "metric", "value", "unit"])
        for number, run in enumerate(grid(experiment, preset, chosen)):
            facts = plain(run)
            head = [experiment.name, preset, f"r{number}", *(facts[name] for name in settings), run.seed, "ok"]
            value = 0.5 + 0.01 * (number % 7) + 0.03 * run.seed
            for metric in ("val_accuracy", "test_accuracy", "few_shot_5"):
                writer.writerow([*head, metric, value, "fraction"])
            for layer, index in itertools.product(range(3), range(2)):
                name = f"attention_distance_l{layer:02}_h{index:02}"
                writer.writerow([*head, name, 1 + layer + index + 0.1 * run.seed, "pixels"])
    described = {"preset": preset, "axes": {key: list(values) for key, values in chosen.axes.items()}}
    described |= {"seeds": chosen.seeds, "base": plain(chosen.base)}
    (folder / "config.yaml").write_text(yaml.safe_dump(described, sort_keys=False))
    return folder


@pytest.fixture(scope="module", params=[module.EXPERIMENT.name for module in EXPERIMENTS])
def drawing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Drawing:
    module = next(module for module in EXPERIMENTS if module.EXPERIMENT.name == request.param)
    return read(result(tmp_path_factory.mktemp("made") / "cpu", module.EXPERIMENT))


def drawn(drawing: Drawing, venue: Venue, width: float) -> Figure:
    with on_page(venue, width):
        figure = drawing.figure(venue, width)
        FigureCanvasAgg(figure).draw()
    return figure


def texts(figure: Figure) -> list[Text]:
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]


@pytest.mark.parametrize(("name", "preset"), COMMITTED)
def test_the_default_style_gives_the_committed_files_byte_for_byte(name: str, preset: str, tmp_path: Path) -> None:
    folder = RESULTS / name / preset
    assert main([str(folder), f"--out={tmp_path}"]) == 0
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(made) == {"figure.pdf", "figure.svg", "figure.png"}
    assert [path for path in sorted(made) if made[path] != (folder / path).read_bytes()] == []


WIDTHS = [(venue.name, ending) for venue in VENUES.values() for ending in venue.widths]


@pytest.mark.parametrize(("style", "ending"), WIDTHS)
def test_every_venue_has_its_width_readable_text_and_no_overlap(drawing: Drawing, style: str, ending: str) -> None:
    venue = VENUES[style]
    figure = drawn(drawing, venue, venue.widths[ending])
    assert figure.get_figwidth() == pytest.approx(venue.widths[ending])
    assert figure.get_figheight() < (7.5 if style == "slides" else 9.7)  # a slide; less than 247 mm, a page of Nature
    assert min(text.get_fontsize() for text in texts(figure)) >= SMALLEST
    assert {text.get_fontfamily()[0] for text in texts(figure)} == {venue.font}
    assert_apart(figure, 1.5 * venue.enlarged)


def test_colours_are_the_same_everywhere(drawing: Drawing) -> None:
    def colours(figure: Figure) -> list[object]:
        return [line.get_color() for axes in figure.axes for line in axes.lines]

    expected = colours(drawn(drawing, DEFAULT, DEFAULT.text))
    assert expected
    for venue in VENUES.values():
        for width in venue.widths.values():
            assert colours(drawn(drawing, venue, width)) == expected


def test_slides_are_twice_as_large_and_a_column_has_no_words() -> None:
    slides, cvpr = VENUES["slides"], VENUES["cvpr"]
    with on_page(slides, slides.text):
        assert (page().width, page().words) == (slides.text / 2, False)
    with on_page(cvpr, cvpr.widths["-column"]):
        assert (page().width, page().words) == (3.25, False)
    assert (page().venue, page().width, page().words) == (DEFAULT, 5.5, True)


@pytest.mark.parametrize("style", ["cvpr", "nature", "slides"])
def test_files_have_the_width_and_embedded_fonts(style: str, tmp_path: Path) -> None:
    folder = result(tmp_path / "made" / "cpu", vit_head.EXPERIMENT)
    assert main([str(folder), f"--style={style}", f"--out={tmp_path / 'out'}"]) == 0
    venue = VENUES[style]
    wanted = {f"figure{ending}{kind}" for ending in venue.widths for kind in KINDS} | {"caption.txt"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == wanted
    for ending, width in venue.widths.items():
        content = (tmp_path / "out" / f"figure{ending}.pdf").read_bytes()
        box = re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ", content)
        assert box
        assert float(box[1]) / 72 == pytest.approx(width, abs=1e-3)
        assert b"/FontFile2" in content
        assert b"/Type3" not in content
        assert "<text" not in (tmp_path / "out" / f"figure{ending}.svg").read_text()
    caption = (tmp_path / "out" / "caption.txt").read_text()
    assert "global average pooling is worse" in caption
    assert "t interval over seeds" in caption


def test_changed_options_of_a_result_are_drawn(tmp_path: Path) -> None:
    folder = result(tmp_path / "cpu", position_embedding.EXPERIMENT)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["base"]["steps"] = 77
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    figure = drawn(read(folder), DEFAULT, DEFAULT.text)
    assert "77 steps" in " ".join(text.get_text() for text in texts(figure))


def test_a_verdict_that_was_otherwise_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = result(tmp_path / "cpu", vit_head.EXPERIMENT)
    judged = read(folder).verdicts
    claims = [{"claim": item.claim, "verdict": item.verdict} for item in judged]
    (folder / "verdicts.json").write_text(json.dumps(claims))
    assert changed_verdicts(read(folder), folder) == []
    claims[0]["verdict"] = "other"
    (folder / "verdicts.json").write_text(json.dumps(claims))
    assert main([str(folder), f"--out={tmp_path / 'out'}"]) == 0
    assert f"verdicts.json says otherwise on {judged[0].claim}" in capsys.readouterr().err


def broken(tmp_path: Path, **files: str | None) -> Path:
    folder = result(tmp_path / "cpu", vit_head.EXPERIMENT)
    for name, text in files.items():
        path = folder / name.replace("_", ".")
        path.unlink() if text is None else path.write_text(text)
    return folder


HEAD = "experiment,preset,run,model,lr,seed,status,metric,value,unit\n"
MISTAKES = {
    "no table": ({"table_csv": None}, "has no table.csv"),
    "empty table": ({"table_csv": HEAD}, "has no rows"),
    "cut table": ({"table_csv": HEAD + "vit_head,cpu\n"}, "was the file cut off"),
    "no config": ({"config_yaml": None}, "has no config.yaml"),
    "cut config": ({"config_yaml": "preset: cpu\naxes"}, "cannot be read: expected preset, axes, seeds and base"),
    "no preset": ({"config_yaml": "{preset: cpx, axes: {}, seeds: 1, base: {}}"}, 'has no preset "cpx"'),
    "unknown option": ({"config_yaml": "{preset: cpu, axes: {}, seeds: 1, base: {stepz: 1}}"}, 'mean "steps"'),
    "no experiment": (
        {"table_csv": HEAD + "vit_haed,cpu,a,m,0.1,0,ok,test_accuracy,0.5,fraction\n"}, 'Did you mean "vit_head"',
    ),
    "other columns": (
        {"table_csv": HEAD.replace(",lr", "") + "vit_head,cpu,a,m,0,ok,test_accuracy,0.5,fraction\n"}, "no column lr",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_folder_that_is_no_result_is_one_sentence(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files, words = MISTAKES[name]
    assert main([str(broken(tmp_path, **files)), f"--out={tmp_path / 'out'}"]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.startswith("figures: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


COMMANDS = {
    "style": (["X", "--style=cvrp"], 'Did you mean "cvpr"?'),
    "option": (["X", "--stile=cvpr"], "--stile is unknown. Did you mean"),
    "two styles": (["X", "--style=cvpr,icml"], "--style takes one value, not 2"),
    "nothing": ([], "One folder is drawn, not 0"),
    "two": (["X", "X"], "One folder is drawn, not 2"),
    "no folder": (["Xu"], "Did you mean"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_wrong_command_is_one_sentence(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(result(tmp_path / "cpu", vit_head.EXPERIMENT))
    tokens, words = COMMANDS[name]
    assert main([token.replace("X", folder, 1) for token in tokens]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_help_names_every_style_with_its_width(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert [name for name in VENUES if f"\n  {name} " not in shown] == []
    assert "6.875 and 3.25 inches" in shown


def test_the_default_folder_is_below_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = result(tmp_path / "cpu", vit_head.EXPERIMENT)
    before = sorted(folder.iterdir())
    monkeypatch.chdir(tmp_path)
    assert main(["cpu"]) == 0
    assert (tmp_path / "outputs/figures/vit_head/cpu/iclr/figure.pdf").is_file()
    assert sorted(folder.iterdir()) == before


def test_a_figure_of_a_fixed_width_is_refused(tmp_path: Path) -> None:
    made = read(result(tmp_path / "cpu", vit_head.EXPERIMENT))
    fixed = Drawing(_Fixed(), made.name, made.preset, made.table, made.verdicts)
    with pytest.raises(UserError, match=r"is 2 inches wide, not 6\.75"), on_page(VENUES["icml"], 6.75):
        fixed.figure(VENUES["icml"], 6.75)


class _Fixed:
    name, settings, shows_seeds = "fixed", ("model", "lr"), False

    @staticmethod
    def figure(*_: object) -> Figure:
        return Figure(figsize=(2, 1))


def test_no_torch_is_needed(tmp_path: Path) -> None:
    folder = result(tmp_path / "cpu", vit_head.EXPERIMENT)
    code = (
        "import sys; from vision_repro.figures.__main__ import main; "
        f"code = main([{str(folder)!r}, '--style=nature', '--out={tmp_path / 'out'}']); "
        "sys.exit(code or 'torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
