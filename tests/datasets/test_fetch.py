"""`make data`: whole data sets brought from a server on this machine, once, and what is said when they cannot be."""

import hashlib
import io
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import scipy.io
from torchvision import datasets

import vision_repro.data as data
from vision_repro.config import UserError
from vision_repro.datasets import fetch, flowers, imagenette, pets
from vision_repro.files import download
from vision_repro.files.download import Remote


class Handler(SimpleHTTPRequestHandler):
    server: Any

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.server.served.append(self.path)
        super().do_GET()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Any]:
    (tmp_path / "server").mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path / "server"))) as made:
        state: Any = made
        state.served, state.folder = [], tmp_path / "server"
        Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
        yield made
        made.shutdown()


def tgz(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def mat(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {name: np.atleast_2d(value) for name, value in arrays.items()})
    return buffer.getvalue()


def publish(server: Any, monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str, *contents: bytes) -> None:
    """Puts files in the place of those that a data set is fetched from."""
    remotes: list[Remote] = []
    for remote, content in zip(module.SOURCES[name], contents, strict=True):
        (server.folder / remote.file).write_bytes(content)
        address = f"http://127.0.0.1:{server.server_address[1]}/{remote.file}"
        remotes.append(replace(remote, url=address, bytes=None, checksum=hashlib.md5(content).hexdigest()))
    monkeypatch.setitem(module.SOURCES, name, tuple(remotes))


def publish_pets(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [(breed.replace(" ", "_"), number) for number, breed in enumerate(pets.CLASSES, 1)]
    images = {f"images/{name}_{i}.jpg": b"x" * i for name, _ in names for i in range(5)}
    lists = {"trainval": range(4), "test": range(4, 5)}
    texts = {
        f"annotations/{half}.txt": "".join(
            f"{name}_{i} {number} 1 1\n" for name, number in names for i in part
        ).encode()
        for half, part in lists.items()
    }
    publish(server, monkeypatch, pets, "pets", tgz(images), tgz(texts))


def publish_flowers(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    images = {f"jpg/image_{number:05}.jpg": b"x" for number in range(1, 7)}
    parts = mat(trnid=[1, 2], valid=[3, 4], tstid=[5, 6])
    publish(server, monkeypatch, flowers, "flowers", tgz(images), mat(labels=[1, 2, 3, 4, 5, 6]), parts)


def publish_imagenette(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    places = [(half, word, i) for half in ("train", "val") for word in imagenette.CLASSES for i in range(4)]
    images = {f"imagenette2-320/{half}/{word}/{i}.JPEG": b"x" for half, word, i in places}
    publish(server, monkeypatch, imagenette, "imagenette", tgz(images))


PUBLISH = {"pets": publish_pets, "flowers": publish_flowers, "imagenette": publish_imagenette}
SIZES = {"pets": (111, 37, 37), "flowers": (2, 2, 2), "imagenette": (30, 10, 40)}


def counts(name: str, data_root: Path | None, cache: Path) -> tuple[int, ...]:
    found = data.listed(name, data_root, cache)
    return len(found.train), len(found.val), len(found.test)


@pytest.mark.parametrize("name", PUBLISH)
@pytest.mark.parametrize("own", [True, False])
def test_a_data_set_is_brought_once(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, own: bool
) -> None:
    PUBLISH[name](server, monkeypatch)
    root = tmp_path / "root" if own else None
    (tmp_path / "root").mkdir()
    said: list[str] = []
    fetch.fetch(name, root, tmp_path / "cache", said.append)
    assert counts(name, root, tmp_path / "cache") == SIZES[name]
    assert any((root or tmp_path / "cache" / "data").iterdir())
    plans = [line for line in said if ", from http://127.0.0.1" in line and " MB, " in line]
    assert len(plans) == len(server.served)
    assert said[-1].startswith(f"{name} is in {root or tmp_path / 'cache' / 'data'}/")
    assert [path.name for path in (tmp_path / "cache" / "downloads" / name).iterdir() if path.suffix != ".lock"] == [
        ".lock"
    ]
    served = len(server.served)
    fetch.fetch(name, root, tmp_path / "cache", said.append)
    assert len(server.served) == served
    assert said[-1].startswith(f"{name} is in ")


def test_what_is_there_is_not_brought_again(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish_flowers(server, monkeypatch)
    fetch.fetch("flowers", tmp_path, tmp_path / "cache", lambda line: None)
    server.served.clear()
    (tmp_path / "flowers-102" / "setid.mat").write_bytes(b"broken")
    fetch.fetch("flowers", tmp_path, tmp_path / "cache", lambda line: None)
    assert server.served == ["/setid.mat"]
    assert counts("flowers", tmp_path, tmp_path / "cache") == (2, 2, 2)


def test_archives_of_the_users_are_unpacked_and_kept(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_pets(server, monkeypatch)
    (tmp_path / "images.tar.gz").write_bytes((server.folder / "images.tar.gz").read_bytes())
    fetch.fetch("pets", tmp_path, tmp_path / "cache", lambda line: None)
    assert server.served == ["/annotations.tar.gz"]
    assert (tmp_path / "images.tar.gz").exists()


def test_many_ask_at_once(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish_flowers(server, monkeypatch)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: fetch.fetch("flowers", None, tmp_path / "cache", lambda line: None), range(4)))
    assert sorted(server.served) == ["/102flowers.tgz", "/imagelabels.mat", "/setid.mat"]
    assert counts("flowers", None, tmp_path / "cache") == (2, 2, 2)


def test_a_broken_copy_is_named_and_left_alone(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish_pets(server, monkeypatch)
    fetch.fetch("pets", tmp_path, tmp_path / "cache", lambda line: None)
    (tmp_path / "pets" / "oxford-iiit-pet" / "images" / "pug_1.jpg").unlink()
    with pytest.raises(UserError, match=r"images/pug_1.jpg is missing"):
        fetch.fetch("pets", tmp_path, tmp_path / "cache", lambda line: None)


def test_a_plan_before_anything_is_fetched(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish_flowers(server, monkeypatch)
    lines = fetch.plan("flowers", tmp_path, tmp_path / "cache")
    assert server.served == []
    assert [line.split(" ")[1] for line in lines] == ["102flowers.tgz", "imagelabels.mat", "setid.mat"]
    assert all(f"into {tmp_path}/flowers-102" in line for line in lines)


def test_without_network_the_error_says_what_to_put_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remotes = [replace(remote, url="http://127.0.0.1:9/" + remote.file) for remote in pets.SOURCES["pets"]]
    monkeypatch.setitem(pets.SOURCES, "pets", tuple(remotes))
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    said: list[str] = []
    with pytest.raises(UserError, match=rf"get images.tar.gz \(of 792 MB, its md5 .* put it into {tmp_path}/cache"):
        fetch.fetch("pets", tmp_path, tmp_path / "cache", said.append)
    assert "pets is not ready" in said[0]
    assert "images.tar.gz of 792 MB" in said[1]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("digitz", r'"digitz" is unknown: .*Did you mean "digits"'),
        ("folder", r"folder is not in --data_root"),
        ("flowers17", r"flowers17 is not in --data_root"),
        ("imagenet21k", r"imagenet21k: put its class folders"),
        ("vtab:dmlab", r"vtab:dmlab is not in --data_root"),
    ],
)
def test_what_cannot_be_fetched(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        fetch.fetch(name, tmp_path, tmp_path / "cache", lambda line: None)


def test_a_task_brings_its_data_set(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish_pets(server, monkeypatch)
    with pytest.raises(UserError, match=r"vtab:pets needs 800 images of a part of .* that has only 111"):
        fetch.fetch("vtab:pets", tmp_path, tmp_path / "cache", lambda line: None)
    assert counts("pets", tmp_path, tmp_path / "cache") == SIZES["pets"]


def test_a_root_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is no folder"):
        fetch.fetch("pets", tmp_path / "nowhere", tmp_path / "cache", lambda line: None)


def test_nothing_to_fetch(tmp_path: Path) -> None:
    said: list[str] = []
    fetch.fetch("digits", None, tmp_path, said.append)
    assert said == ["digits come with scikit-learn: there is nothing to fetch"]


def test_addresses_and_checksums_are_torchvisions() -> None:
    known = [
        *datasets.OxfordIIITPet._RESOURCES,
        *(
            (datasets.Flowers102._download_url_prefix + file, md5)
            for file, md5 in datasets.Flowers102._file_dict.values()
        ),
        *datasets.Imagenette._ARCHIVES.values(),
    ]
    ours = [remote for module in (pets, flowers, imagenette) for part in module.SOURCES.values() for remote in part]
    assert {(remote.url, remote.checksum) for remote in ours} == set(known)
    assert all(remote.url.endswith("/" + remote.file) and remote.bytes for remote in ours)
