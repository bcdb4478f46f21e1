"""The layer table in the terminal."""

import subprocess
import sys

import pytest

from vision_repro.accounting.explain import main

DONE: dict[tuple[str, ...], list[str]] = {}
"""What has been printed already, by the command line."""


def explained(capsys: pytest.CaptureFixture[str], *tokens: str) -> list[str]:
    if tokens not in DONE:
        assert main(tokens) == 0
        DONE[tokens] = capsys.readouterr().out.splitlines()
    return DONE[tokens]


def row(lines: list[str], name: str) -> list[str]:
    return next(line for line in lines if line.startswith(name)).split()


def test_alexnet_has_the_columns_of_the_slides(capsys: pytest.CaptureFixture[str]) -> None:
    lines = explained(capsys, "--model=alexnet-64")
    assert "227 x 227 pixels" in lines[0]
    head = "layer C in H/W filters kernel stride pad C out H/W KB params k MMAC pool Mop"
    conv1 = "features.conv1 (conv) 3 227 64 11 4 2 64 56 784.0 23.3 72.86"
    pool1 = "features.pool1 (pool) 64 56 3 2 0 64 27 182.2 0.42"
    assert lines[2].split() == head.split()
    assert row(lines, "features.conv1") == conv1.split()
    assert row(lines, "features.pool1") == pool1.split()
    assert row(lines, "neck.fc6") == ["neck.fc6", "(linear)", "9216", "4096", "4096", "16.0", "37,752.8", "37.75"]
    assert row(lines, "parameters")[-1] == "61,100,840"


def test_the_unit_is_always_printed_with_the_number(capsys: pytest.CaptureFixture[str]) -> None:
    mac, flop = (explained(capsys, "--model=vit-b/16", option) for option in ("--mac", "--flop"))
    assert "17.564 GMAC (a multiply-add is 1 MAC; all taps)" in "\n".join(mac)
    assert "35.128 GFLOP (a multiply-add is 2 FLOP; all taps)" in "\n".join(flop)
    assert explained(capsys, "--model=lenet5") == explained(capsys, "--model=lenet5", "--mac")
    assert ("MMAC" in mac[2], "MFLOP" in flop[2]) == (True, True)
    assert any("52.691 GMAC by definition, 3 x forward" in line and "2.993 x forward" in line for line in mac)


def test_blocks_of_a_transformer_are_folded(capsys: pytest.CaptureFixture[str]) -> None:
    folded = explained(capsys, "--model=vit-b/16", "--mac")
    whole = explained(capsys, "--model=vit-b/16", "--fold=False")
    assert row(folded, "blocks.0-11.attn (")[:6] == ["blocks.0-11.attn", "(attention)", "x12", "768", "197", "12"]
    assert len(folded) < 25 < len(whole)
    assert row(whole, "blocks.11.mlp.fc2")[0] == "blocks.11.mlp.fc2"
    assert not any("x12" in line for line in whole)
    assert folded[-5:] == whole[-5:]


def test_taps_inside(capsys: pytest.CaptureFixture[str]) -> None:
    lines = explained(capsys, "--model=r8x0.25/2+vit-64x2/4", "--image_size=32", "--taps=inside", "--batch=2")
    assert lines[0].endswith("2 images; a multiply-add is 1 MAC; taps inside the map.")
    assert "0+1" in row(lines, "patch_embed.backbone.stem.conv")
    assert "taps inside the map)" in row_text(lines, "forward")


def row_text(lines: list[str], name: str) -> str:
    return next(line for line in lines if line.startswith(name))


def test_windows_and_heads_of_a_swin(capsys: pytest.CaptureFixture[str]) -> None:
    lines = explained(capsys, "--model=swin-t")
    assert "layers.0.blocks.0-1.attn (attention), 64 windows" in "\n".join(lines)
    assert "softmax matrices" in lines[-1]


def test_small_amounts_are_not_shown_as_zero(capsys: pytest.CaptureFixture[str]) -> None:
    lines = explained(capsys, "--model=lenet5", "--classes=10")
    assert row_text(lines, "forward").startswith("forward      0.417 MMAC")
    assert " KB" in row_text(lines, "memory")


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        ([], "Which architecture? Give --model=NAME"),
        (["--model=vit-b/16", "--mac", "--flop"], "give one of them"),
        (["--model=vit-b/16", "--taps=some"], '--taps="some" is unknown: expected one of all, inside.'),
        (["--model=vit-b/16", "--batch=0"], "--batch=0 is too small"),
        (["--model=vit-b/16", "--image_size=0"], "at least 1 class and 1 pixel"),
        (["--model=vit-b/16", "--classes=0"], "at least 1 class and 1 pixel"),
        (["--model=vit-b/16", "--image_size=225"], "225-pixel images do not divide"),
        (["--model=vit-b/17"], 'No source gives an image size for "vit-b/17": give --image_size=N [pixels]. Did you'),
        (["--model=vitt", "--image_size=8"], 'Model "vitt" is unknown'),
        (["--model=vit-b/16,vit-b/32"], "--model takes one value, not 2."),
        (["--modle=vit-b/16"], 'Did you mean "model"?'),
        (["vit-b/16"], '"vit-b/16" is not an option'),
        (["--model=vit-b/16", "--mac=maybe"], '--mac="maybe" is not True or False.'),
    ],
)
def test_bad_options(tokens: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(tokens) == 2
    caught = capsys.readouterr()
    assert text in caught.err
    assert caught.err.startswith("explain: ")
    assert caught.out == ""


def test_help_needs_no_torch() -> None:
    code = (
        "import sys; from vision_repro.accounting import explain; from vision_repro.published import tables\n"
        "code = explain.main(['--help']) or tables.main(['--help']) or explain.main(['--model=x', '--mac', '--flop'])\n"
        "sys.exit(0 if code == 2 and 'torch' not in sys.modules else 1)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--image_size" in done.stdout
    assert "--out" in done.stdout
