import hashlib
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from huggingface_hub import constants
from torch import Tensor

from vision_repro import models
from vision_repro.config import UserError
from vision_repro.models.weights import fetch, hub, load
from vision_repro.models.weights.resolution import resize_grid


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hugging Face cache, on a machine without network."""

    def unreachable(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    return tmp_path / "hub"


def put(cache: Path, repository: str, state: dict[str, Tensor]) -> Path:
    """Writes weights where the hub's client keeps them."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / "0123456789abcdef"
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0123456789abcdef")
    safetensors.torch.save_file(state, snapshot / "model.safetensors")
    return snapshot / "model.safetensors"


def pretrained(name: str, **settings: Any) -> Any:
    torch.manual_seed(5)
    model = timm.create_model(name, **settings)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.1 * torch.randn_like(value))
    return model.eval()


def test_timms_weights_of_timms_model(cache: Path) -> None:
    theirs = pretrained("test_vit")
    file = put(cache, "timm/test_vit.r160_in1k", theirs.state_dict())
    model = models.build("timm:test_vit", image_size=160, classes=1000).eval()
    found = load(model, "timm:test_vit", "timm", image_size=160, keep_head=True)
    images = torch.randn(1, 3, 160, 160)
    with torch.no_grad():
        assert torch.equal(model(images), theirs(images))
    assert (found.source, found.licence) == ("timm:test_vit.r160_in1k", "apache-2.0")
    assert (found.head, found.resized) == (True, False)
    assert found.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_vit_is_interpolated_by_the_papers_rule(cache: Path) -> None:
    theirs = pretrained("test_vit")
    put(cache, "timm/test_vit.r160_in1k", theirs.state_dict())
    model = models.build("timm:test_vit", image_size=64, classes=3)
    found = load(model, "timm:test_vit", "timm", image_size=64)
    assert (found.head, found.resized) == (False, True)
    expected = resize_grid(theirs.pos_embed.detach()[:, 1:], 4)
    assert torch.equal(model.get_parameter("pos_embed")[:, 1:], expected)
    assert not model(torch.randn(1, 3, 64, 64)).any()


def test_timms_weights_in_an_architecture_of_ours(cache: Path) -> None:
    theirs = pretrained("vit_tiny_patch16_224.augreg_in21k", num_classes=21843)
    put(cache, "timm/vit_tiny_patch16_224.augreg_in21k", theirs.state_dict())
    model = models.build("vit-ti/16", image_size=224, classes=4).eval()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    found = load(model, "vit-ti/16", "timm:vit_tiny_patch16_224.augreg_in21k", image_size=224)
    assert torch.equal(torch.get_rng_state(), before)
    assert not found.head
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(models.features(model, images), models.features(theirs, images))


def test_weights_that_fit_but_compute_something_else(cache: Path) -> None:
    tag = "vit_tiny_patch16_224.augreg_in21k"
    put(cache, f"timm/{tag}", pretrained(tag).state_dict())
    model = models.build("vit-192x12/16", image_size=224, classes=3)  # of the same width, with 6 heads instead of 3
    with pytest.raises(UserError, match=rf"timm:{tag} is not a vit-192x12/16: with the same weights timm's computes"):
        load(model, "vit-192x12/16", f"timm:{tag}", image_size=224)


def test_weights_of_another_shape(cache: Path) -> None:
    put(cache, "timm/test_vit.r160_in1k", pretrained("test_vit").state_dict())
    model = models.build("vit-64x6/16", image_size=160, classes=3)
    with pytest.raises(UserError, match=r'r160_in1k is not a vit-64x6/16: its "blocks.0.mlp.fc1.weight" has shape'):
        load(model, "vit-64x6/16", "timm:test_vit", image_size=160)


def test_a_damaged_file_in_the_cache(cache: Path) -> None:
    file = put(cache, "timm/test_vit.r160_in1k", pretrained("test_vit").state_dict())
    file.write_bytes(file.read_bytes()[:5000])
    model = models.build("timm:test_vit", image_size=160, classes=3)
    with pytest.raises(UserError, match=r'model.safetensors" cannot be read'):
        load(model, "timm:test_vit", "timm", image_size=160)


def test_without_network_it_says_what_to_fetch_and_where_it_goes(cache: Path) -> None:
    model = models.build("timm:test_vit", image_size=160, classes=3)
    command = f"are not in {cache}: where there is network, run `hf download timm/test_vit.r160_in1k model.safetensors`"
    with pytest.raises(UserError, match=f"^Weights timm:test_vit.r160_in1k {command}"):
        load(model, "timm:test_vit", "timm", image_size=160)
    with pytest.raises(UserError, match=rf"^https://huggingface.co cannot be reached. Weights .* {command}"):
        fetch("timm:test_vit", "timm")


def test_what_is_there_is_not_fetched(cache: Path) -> None:
    file = put(cache, "timm/test_vit.r160_in1k", pretrained("test_vit").state_dict())
    assert hub.fetch("test_vit.r160_in1k") == file
    fetch("timm:test_vit", "timm")


def test_what_is_not_there_is_fetched_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def download(repository: str, file: str, **_: Any) -> str:
        asked.append((repository, file))
        if file == "model.safetensors":
            raise FileNotFoundError("404")
        return str(cache / file)

    monkeypatch.setattr(hub, "_reachable", lambda _: True)
    monkeypatch.setattr(hub, "hf_hub_download", download)
    assert hub.fetch("test_vit.r160_in1k") == cache / "pytorch_model.bin"
    assert asked == [("timm/test_vit.r160_in1k", file) for file in ("model.safetensors", "pytorch_model.bin")]
    monkeypatch.setattr(hub, "FILES", ("model.safetensors",))
    with pytest.raises(UserError, match=r"were not fetched from https://huggingface.co/timm/test_vit.r160_in1k: 404"):
        hub.fetch("test_vit.r160_in1k")


@pytest.mark.parametrize(
    ("name", "source", "expected"),
    [
        ("timm:resnet18", "timm", "resnet18.a1_in1k"),
        ("timm:resnet18.tv_in1k", "timm", "resnet18.tv_in1k"),
        ("timm:resnet18", "timm:resnet18.tv_in1k", "resnet18.tv_in1k"),
        ("bit-r50x1", "timm:resnetv2_50x1_bit.goog_in21k", "resnetv2_50x1_bit.goog_in21k"),
    ],
)
def test_names_of_weights(name: str, source: str, expected: str) -> None:
    assert hub.resolve(name, source) == expected


@pytest.mark.parametrize(
    ("name", "source", "message"),
    [
        ("vit-b/16", "timm", 'Weights "timm" of vit-b/16 could be several: expected "timm:<model>.<tag>"'),
        ("vit-b/16", "timm:vit_bose_patch16_224", 'has no model "vit_bose_patch16_224"'),
        ("timm:vit_base_r26_s32_224", "timm", 'timm has no pretrained weights of "vit_base_r26_s32_224"'),
    ],
)
def test_weights_that_do_not_exist(name: str, source: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        hub.resolve(name, source)


def test_weights_that_are_not_on_the_hub(cache: Path) -> None:
    with pytest.raises(UserError, match=r"legacy_seresnet18.in1k are not on the hub: download https://.* and"):
        hub.find("legacy_seresnet18.in1k")
