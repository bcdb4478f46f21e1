"""What a person types to bring a data set, to check it and to look at it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vision_repro.data.__main__ import main


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Class folders of small pictures: `a` is bright, `b` dark, each with a shade of its own."""
    monkeypatch.setenv("VISION_REPRO_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VISION_REPRO_DATA", raising=False)
    for split, count in (("train", 20), ("val", 3)):
        for name, base in (("a", 128), ("b", 0)):
            folder = tmp_path / "own" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                shade = base + 4 * number + (2 if split == "val" else 0)
                Image.fromarray(np.full((16, 20, 3), shade, np.uint8)).save(folder / f"{number}.png")
    return tmp_path / "own"


def test_get_says_what_is_there(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["get", "--dataset=folder", f"--data_root={folders}"]) == 0
    assert "38 training, 2 val and 6 test images" in capsys.readouterr().out


def test_check_finds_nothing_then_what_was_done(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["check", "--dataset=folder", f"--data_root={folders}", f"--out={folders / 'out'}", "--workers=0"]
    assert main(command) == 0
    assert "nothing was found" in capsys.readouterr().out
    (folders / "val" / "a" / "0.png").write_bytes((folders / "train" / "a" / "7.png").read_bytes())
    (folders / "train" / "b" / "3.png").write_bytes(b"not a picture")
    assert main(command) == 1
    text = capsys.readouterr().out
    assert "1 test images occur in" in text
    assert "3.png" in text
    with Image.open(folders / "out" / "folder-check.png") as picture:
        assert picture.width > 50


def test_show_draws_the_image_and_what_becomes_of_it(folders: Path) -> None:
    options = ["--dataset=folder", f"--data_root={folders}", f"--out={folders / 'out'}", "--image_size=16", "--count=2"]
    assert main(["show", *options, "--augmentation=inception+rotate90"]) == 0
    with Image.open(folders / "out" / "folder-show-inception+rotate90.png") as picture:
        pixels = np.asarray(picture)
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 4  # both images and the black corners of turned ones


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (["shwo"], 'Did you mean "show"'),
        (["show", "--dataset=digit"], 'Did you mean "digits"'),
        (["show", "--augmentation=flipp"], 'Did you mean "flip"'),
        (["show", "--dataset=digits", "--augmentation=vgg"], "held in memory"),
        (["show", "--count=0"], "--count=0 is too small"),
        (["show", "--dataset=digits,cifar10"], "takes one value"),
        (["get", "--dataset=imagenet"], "imagenet"),
        (["check", "--dataset=folder", "--data_root=/nowhere"], "is no folder"),
    ],
)
def test_bad_input_gets_one_sentence(
    tokens: list[str], words: str, folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(tokens) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1


def test_help_lists_the_verbs_and_the_data_sets(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("get", "check", "show", "pets", "flowers", "--augmentation"))
    assert main([]) == 2
