"""Files that a later step trusts: an edit, a flipped bit and another run's file are told in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vision_repro.config import RunConfig, UserError
from vision_repro.store import checkpoints
from vision_repro.store.measurements import Measurement, wanted
from vision_repro.store.runs import WEIGHTS, RunFolder
from vision_repro.store.seals import digest, read_sealed, sealed

CONFIG = RunConfig(shots="")


def trained(root: Path, weights: bytes = b"weights") -> RunFolder:
    """A run that is trained and measured."""
    folder = RunFolder(root, CONFIG)
    folder.open()
    (folder.path / WEIGHTS).write_bytes(weights)
    folder.finish("ok", {"val_accuracy": (0.5, "fraction")}, {"weights_sha256": digest(weights)})
    folder.add(wanted(CONFIG)[0], {"test_accuracy": (0.75, "fraction")}, {})
    return folder


@given(
    st.dictionaries(
        st.text(max_size=8),
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    ).filter(lambda content: "sha256" not in content)
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_sealed_is_read_back(tmp_path: Path, content: dict[str, object]) -> None:
    (tmp_path / "a.json").write_text(sealed(content))
    assert read_sealed(tmp_path / "a.json", "it") == content


def test_an_edited_number_is_found(tmp_path: Path) -> None:
    folder = trained(tmp_path)
    assert folder.outcome()["metrics"]["test_accuracy"]["value"] == 0.75  # type: ignore[index]
    for file in (folder.path / "result.json", next((folder.path / "measurements").iterdir())):
        text = file.read_text()
        file.write_text(text.replace("0.5", "7.5").replace("0.75", "7.5"))
        with pytest.raises(UserError, match="was changed after it was written"):
            folder.outcome()
        file.write_text(text)
    assert folder.outcome() is not None


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"sha256": 1}'])
def test_a_broken_measurement_is_never_taken_for_one(tmp_path: Path, text: str) -> None:
    folder = trained(tmp_path)
    next((folder.path / "measurements").iterdir()).write_text(text)
    with pytest.raises(UserError, match="accuracy of run"):
        folder.outcome()


def test_a_result_and_a_measurement_of_another_run_are_refused(tmp_path: Path) -> None:
    folder, other = trained(tmp_path), RunFolder(tmp_path, RunConfig(seed=1, shots=""))
    other.open()
    for name in ("result.json", "measurements"):
        (folder.path / name).rename(other.path / name)
        with pytest.raises(UserError, match=f"of run {other.id}"):
            other.outcome() if name == "result.json" else other.measurement(wanted(CONFIG)[0])
        (other.path / name).rename(folder.path / name)


@given(st.integers(0, 8 * 7 - 1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_any_flipped_bit_of_the_weights_is_found(tmp_path: Path, bit: int) -> None:
    folder = trained(tmp_path)
    content = bytearray(b"weights")
    content[bit // 8] ^= 1 << bit % 8
    (folder.path / WEIGHTS).write_bytes(content)
    with pytest.raises(UserError, match="damaged or another file"):
        folder.weights()
    (folder.path / WEIGHTS).write_bytes(b"weights")
    assert folder.weights().read_bytes() == b"weights"


def test_a_checkpoint_is_replaced_whole_and_a_damaged_one_is_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert checkpoints.find(tmp_path) is None
    for content in (b"first", b"second"):
        checkpoints.save(tmp_path, lambda path, content=content: path.write_bytes(content))
        (file,) = tmp_path.iterdir()
        assert checkpoints.find(tmp_path) == file
        assert file.read_bytes() == content
    file.write_bytes(b"secend")
    assert checkpoints.find(tmp_path) is None
    assert "is damaged and is not used" in capsys.readouterr().err
    checkpoints.remove(tmp_path)
    assert not list(tmp_path.iterdir())


def test_measurements_have_options_of_their_own(tmp_path: Path) -> None:
    folder = trained(tmp_path)
    more = RunFolder(tmp_path, RunConfig(shots="1 5", probes="knn"))
    assert more.path == folder.path
    assert [item.name for item in more.missing()] == ["few_shot", "few_shot", "knn"]
    assert more.outcome() is None
    assert folder.outcome() is not None
    names = {item.file for item in wanted(RunConfig(shots="1 5", draws=3))} & {
        item.file for item in wanted(RunConfig(shots="1 5", draws=4))
    }
    assert names == {wanted(CONFIG)[0].file}
    assert Measurement("a", (("b", 1),)).file != Measurement("a", (("b", 2),)).file


def test_fields_that_came_later_leave_an_older_folder_as_it_is(tmp_path: Path) -> None:
    folder = trained(tmp_path)
    lines = (folder.path / "config.yaml").read_text().splitlines()
    (folder.path / "config.yaml").write_text("\n".join(line for line in lines if not line.startswith("threads")))
    folder.open()
    content = json.loads((folder.path / "result.json").read_text())
    assert content["run"] == folder.id
