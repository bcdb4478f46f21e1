"""Downloads from a server on this machine that breaks off, lies and fails; archives that reach out of their folder."""

import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest

from vision_repro.config import UserError
from vision_repro.files import archives, download
from vision_repro.files.download import Remote

CONTENT = bytes(range(256)) * 1000  # 256,000 bytes
MD5 = hashlib.md5(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT with ranges; before that, plays the faults of its server, one a request."""

    server: Any

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.requests.append(asked)
        fault, _, detail = (self.server.faults.pop(0) if self.server.faults else "").partition(" ")
        content = CONTENT[::-1] if fault == "other" else CONTENT
        if fault == "sleep":
            time.sleep(float(detail))
        if fault == "status":
            return self.send_error(int(detail))
        first = int(asked[6:-1]) if asked and fault != "whole" else 0
        if first >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            return self.end_headers()
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        rest = content[first : first + int(detail)] if fault == "cut" else content[first:]
        for start in range(0, len(rest), 16_000):
            self.wfile.write(rest[start : start + 16_000])
            time.sleep(self.server.pause)


@pytest.fixture
def server() -> Iterator[Any]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        state: Any = made
        state.faults, state.requests, state.pause = [], [], 0.0
        state.handle_error = lambda *_: None  # clients that break off are what is tested
        state.remote = Remote(f"http://127.0.0.1:{made.server_address[1]}/data.bin", "data.bin", None, MD5)
        Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
        yield made
        made.shutdown()


def get(server: Any, folder: Path, **changes: Any) -> tuple[Path, list[str]]:
    said: list[str] = []
    path = download.fetch(server.remote, folder, said.append, **{"timeout": 5.0, "pause": 0.001, **changes})
    assert path.read_bytes() == CONTENT
    assert sorted(item.name for item in folder.iterdir()) == [".data.bin.lock", "data.bin"]
    return path, said


def test_a_file_is_fetched_once(server: Any, tmp_path: Path) -> None:
    assert get(server, tmp_path / "new")[0] == tmp_path / "new" / "data.bin"
    assert get(server, tmp_path / "new")[1] == []
    assert server.requests == [None]


def test_sha256_is_told_from_md5_by_its_length(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(CONTENT)
    assert download.matches(tmp_path / "x", MD5)
    assert download.matches(tmp_path / "x", hashlib.sha256(CONTENT).hexdigest())
    assert not download.matches(tmp_path / "x", MD5[:-1] + ("0" if MD5[-1] != "0" else "1"))
    assert not download.matches(tmp_path / "y", MD5)


def test_a_broken_connection_is_taken_up_where_it_broke(server: Any, tmp_path: Path) -> None:
    server.faults = ["cut 100000", "cut 50000"]
    get(server, tmp_path)
    assert server.requests == [None, "bytes=100000-", "bytes=150000-"]


def test_connections_that_bring_something_do_not_count_as_failures(server: Any, tmp_path: Path) -> None:
    server.faults = ["cut 10000"] * 20
    get(server, tmp_path)
    assert len(server.requests) == 21


def test_what_another_process_left_is_continued(server: Any, tmp_path: Path) -> None:
    (tmp_path / "data.bin.part").write_bytes(CONTENT[:77_777])
    get(server, tmp_path)
    assert server.requests == ["bytes=77777-"]


@pytest.mark.parametrize("have", [len(CONTENT), len(CONTENT) + 5])
def test_a_part_that_is_whole_or_too_long(server: Any, tmp_path: Path, have: int) -> None:
    (tmp_path / "data.bin.part").write_bytes((CONTENT * 2)[:have])
    get(server, tmp_path)
    assert server.requests == [f"bytes={have}-", None][: 1 if have == len(CONTENT) else 2]


def test_a_server_without_ranges_sends_all_again(server: Any, tmp_path: Path) -> None:
    server.faults = ["cut 1000", "whole"]
    get(server, tmp_path)
    assert server.requests == [None, "bytes=1000-"]


def test_the_remains_of_another_file_are_thrown_away(server: Any, tmp_path: Path) -> None:
    (tmp_path / "data.bin.part").write_bytes(bytes(1000))
    _, said = get(server, tmp_path)
    assert server.requests == ["bytes=1000-", None]
    assert any("wrong checksum" in line for line in said)


def test_a_wrong_file_is_fetched_anew(server: Any, tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(CONTENT[:-1])
    _, said = get(server, tmp_path)
    assert "its checksum differs" in said[0]


def test_a_server_that_sends_something_else(server: Any, tmp_path: Path) -> None:
    server.faults = ["other", "other"]
    with pytest.raises(UserError, match=f"has not the md5 {MD5}.* put it into {tmp_path}"):
        download.fetch(server.remote, tmp_path, lambda line: None, pause=0.001)
    assert [item.name for item in tmp_path.iterdir()] == [".data.bin.lock"]


def test_a_server_that_recovers(server: Any, tmp_path: Path) -> None:
    server.faults = ["status 503", "status 429", "cut 0"]
    get(server, tmp_path)
    assert len(server.requests) == 4


@pytest.mark.parametrize(("status", "requests"), [(503, download.ATTEMPTS), (404, 1), (403, 1)])
def test_a_server_that_does_not(server: Any, tmp_path: Path, status: int, requests: int) -> None:
    server.faults = [f"status {status}"] * 10
    with pytest.raises(UserError, match=rf"/data.bin could not be fetched .*{status}.*get data.bin") as caught:
        download.fetch(server.remote, tmp_path, lambda line: None, pause=0.001)
    assert len(server.requests) == requests
    assert "\n" not in str(caught.value)


def test_a_server_that_says_nothing_is_given_up(server: Any, tmp_path: Path) -> None:
    server.faults = ["sleep 1"]
    _, said = get(server, tmp_path, timeout=0.2)
    assert "trying again" in said[0]


def test_without_network_the_error_says_what_to_put_where(tmp_path: Path) -> None:
    remote = Remote("http://127.0.0.1:9/big.tgz", "big.tgz", 1_500_000_000, MD5)
    with pytest.raises(UserError, match=rf"get big.tgz \(of 1,500 MB, its md5 {MD5}\) .* put it into {tmp_path}"):
        download.fetch(remote, tmp_path, lambda line: None, pause=0.001)


def test_a_full_disk_is_noticed_before(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match=r"data.bin needs more disk space"):
        download.fetch(server.remote, tmp_path, lambda line: None)
    assert len(server.requests) == 1


def test_sizes_before_fetching(server: Any) -> None:
    assert download.size_of(server.remote) == len(CONTENT)
    assert download.size_of(Remote("http://127.0.0.1:9/x", "x", 12, MD5)) == 12
    assert download.size_of(Remote("http://127.0.0.1:9/x", "x", None, MD5)) is None
    assert [download.megabytes(size) for size in (None, 5_040_000, 791_918_971)] == [
        "of unknown size",
        "of 5.0 MB",
        "of 792 MB",
    ]


def test_progress_is_told(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_TOLD", 0.0)
    assert "data.bin: 0 MB of 0.3 MB" in get(server, tmp_path)[1]


def test_many_ask_at_once_and_one_fetches(server: Any, tmp_path: Path) -> None:
    server.pause = 0.005
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: get(server, tmp_path / "shared")[0], range(4)))
    assert set(paths) == {tmp_path / "shared" / "data.bin"}
    assert server.requests == [None]


KILLED = """
import sys
from pathlib import Path
from vision_repro.files.download import Remote, fetch
fetch(Remote(sys.argv[1], "data.bin", None, sys.argv[2]), Path(sys.argv[3]), print)
"""


@pytest.mark.slow
def test_a_killed_process_leaves_a_part_and_no_lock(server: Any, tmp_path: Path) -> None:
    server.pause = 0.2
    command = [sys.executable, "-c", KILLED, server.remote.url, MD5, str(tmp_path)]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}) as process:
        part = tmp_path / "data.bin.part"
        for _ in range(600):
            if server.requests:
                break
            time.sleep(0.1)
        time.sleep(1)
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "data.bin").exists()
    have = part.stat().st_size
    server.pause = 0.0
    get(server, tmp_path)
    assert have > 0
    assert server.requests == [None, f"bytes={have}-"]


# --- archives ---


def add(tar: tarfile.TarFile, name: str, content: bytes = b"x", **facts: Any) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for key, value in facts.items():
        setattr(member, key, value)
    tar.addfile(member, io.BytesIO(content))


def write_tar(path: Path, *evil: tuple[str, dict[str, Any]]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        add(tar, "images/1.jpg", os.urandom(50_000))
        add(tar, "readme.txt")
        for name, facts in evil:
            add(tar, name, b"", **facts)
    return path


def write_zip(path: Path, *evil: tuple[str, int]) -> Path:
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("images/1.jpg", os.urandom(50_000))
        zipped.writestr("readme.txt", "x")
        for name, mode in evil:
            member = zipfile.ZipInfo(name)
            member.external_attr = mode << 16
            zipped.writestr(member, "/etc/passwd")
    return path


@pytest.mark.parametrize(("write", "name"), [(write_tar, "a.tgz"), (write_zip, "a.zip")])
def test_an_archive_is_unpacked_whole(tmp_path: Path, write: Any, name: str) -> None:
    assert archives.is_archive(name)
    found = archives.extract(write(tmp_path / name), tmp_path / "to")
    assert found == [tmp_path / "to" / "images", tmp_path / "to" / "readme.txt"]
    assert (tmp_path / "to" / "images" / "1.jpg").stat().st_size == 50_000
    assert sorted(path.name for path in (tmp_path / "to").iterdir()) == ["images", "readme.txt"]


@pytest.mark.parametrize(
    "member",
    [
        ("../evil", {}),
        ("images/../../evil", {}),
        ("link", {"type": tarfile.SYMTYPE, "linkname": "../../evil"}),
        ("link", {"type": tarfile.SYMTYPE, "linkname": "/etc"}),
        ("hard", {"type": tarfile.LNKTYPE, "linkname": "../../evil"}),
        ("device", {"type": tarfile.CHRTYPE}),
    ],
)
def test_a_tar_that_reaches_out_is_refused(tmp_path: Path, member: tuple[str, dict[str, Any]]) -> None:
    archive = write_tar(tmp_path / "a.tgz", member)
    with pytest.raises(UserError, match=r"a.tgz cannot be unpacked"):
        archives.extract(archive, tmp_path / "to")
    assert [path.name for path in tmp_path.iterdir() if path.name != "to"] == ["a.tgz"]
    assert not list((tmp_path / "to").iterdir())


@pytest.mark.parametrize(
    "member", [("../evil", 0), ("/tmp/evil", 0), ("images/..\\..\\evil", 0), ("C:/evil", 0), ("link", 0o120777)]
)
def test_a_zip_that_reaches_out_is_refused(tmp_path: Path, member: tuple[str, int]) -> None:
    archive = write_zip(tmp_path / "a.zip", member)
    with pytest.raises(UserError, match=r"would not stay inside"):
        archives.extract(archive, tmp_path / "to")
    assert not list((tmp_path / "to").iterdir())


@pytest.mark.parametrize(("write", "name"), [(write_tar, "a.tgz"), (write_zip, "a.zip")])
@pytest.mark.parametrize("left", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_archive_leaves_nothing(tmp_path: Path, write: Any, name: str, left: float) -> None:
    archive = write(tmp_path / name)
    archive.write_bytes(archive.read_bytes()[: int(left * archive.stat().st_size)])
    with pytest.raises(UserError, match=rf"{name} cannot be unpacked"):
        archives.extract(archive, tmp_path / "to")
    assert not list((tmp_path / "to").iterdir())


def test_nothing_of_the_users_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "to" / "images").mkdir(parents=True)
    (tmp_path / "to" / "images" / "mine.jpg").write_text("mine")
    with pytest.raises(UserError, match=r"to/images is in the way"):
        archives.extract(write_tar(tmp_path / "a.tgz"), tmp_path / "to")
    assert (tmp_path / "to" / "images" / "mine.jpg").read_text() == "mine"
