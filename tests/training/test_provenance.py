import sys

import pytest

from vision_repro.training import provenance


def test_the_command_names_no_folder_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/a/b/tool.py", "--preset=cpu", "--out=/home/me/x", "--data_root=/data"])
    assert "--preset=cpu" in provenance.command()
    assert "/" not in provenance.command()


def test_code_is_traced_to_versions_and_lock() -> None:
    found = provenance.code()
    assert len(found["lock_sha256"]) == 64
    assert found["versions"]["torch"]
    assert set(found) == {"commit", "dirty", "lock_sha256", "versions"}
