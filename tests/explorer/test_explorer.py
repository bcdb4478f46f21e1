"""The attention page as numbers: what is in the file is what the model attends to, within the error that it states."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from vision_repro import models
from vision_repro.augmentation.normalisation import statistics
from vision_repro.config import UserError
from vision_repro.explorer import content, html, pictures, write
from vision_repro.files.places import cache_folder
from vision_repro.models import weights
from vision_repro.probes.attention_distance import mean_distances
from vision_repro.probes.rollout import rollout

HOSTILE = '</script><script>alert("x")</script><img src=x onerror=alert(1)> {{style}} & \u2028 \\u003c'


@pytest.fixture(autouse=True)
def _caches(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISION_REPRO_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def options(**changed: Any) -> write.Options:
    return write.Options(**{"model": "vit-32x3/2", "image_size": 8, "dataset": "digits", "images": 3, **changed})


def data_of(page: str) -> dict[str, Any]:
    """Returns what the script of a page reads."""
    found = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert len(found) == 1
    data: dict[str, Any] = json.loads(found[0])
    return data


def decoded(data: dict[str, Any], layer: int, image: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns weights `[H, T, T]` and distances `[H, N]` of a block, read as the page's script reads them."""
    heads, patches = data["heads"][data["kept"][layer]], data["grid"] ** 2
    tokens = patches + data["prefix"]
    raw = zlib.decompress(base64.b64decode(data["blocks"][layer][image]))
    steps = np.frombuffer(raw, "<f4", heads * tokens).reshape(heads, tokens, 1)
    distances = np.frombuffer(raw, "<f4", heads * patches, 4 * heads * tokens).reshape(heads, patches)
    codes = np.frombuffer(raw, np.uint8, offset=4 * heads * (tokens + patches)).reshape(heads, tokens, tokens)
    return codes * steps.astype(np.float64), distances


def slow_attention(model: Any, inputs: Tensor) -> list[np.ndarray]:
    """Returns the attention `[I, H, T, T]` of each layer, from the tokens that enter it, head by head."""
    entered: list[Tensor] = []
    handles = [block.attn.register_forward_pre_hook(lambda _, args: entered.append(args[0])) for block in model.blocks]
    with torch.no_grad():
        model.eval()(inputs)
        found = []
        for block, tokens in zip(model.blocks, entered, strict=True):
            query, key, _ = block.attn.qkv(tokens).chunk(3, -1)
            wide, rows = block.attn.head_dim, []
            for head in range(block.attn.num_heads):
                part = slice(head * wide, (head + 1) * wide)
                scores = query[..., part] @ key[..., part].transpose(1, 2) / wide**0.5
                rows.append(scores.softmax(-1))
            found.append(torch.stack(rows, 1).numpy())
    for handle in handles:
        handle.remove()
    return found


def pictures_of(chosen: write.Options) -> pictures.Pictures:
    size, count, seed = chosen.image_size, chosen.images, chosen.seed
    return pictures.of_data_set("digits", None, cache_folder(), size=size, count=count, seed=seed)


def inputs_of(chosen: write.Options) -> Tensor:
    return statistics("half")(pictures_of(chosen).images)


def fresh(chosen: write.Options) -> Any:
    torch.manual_seed(chosen.seed)
    return models.build(chosen.model, image_size=chosen.image_size, classes=10)


@pytest.mark.parametrize("model", ["vit-32x3/2", "vit-32x2/2-gap"])
def test_the_page_holds_what_the_model_attends_to(model: str, tmp_path: Path) -> None:
    chosen = options(model=model, seed=4, out=str(tmp_path / "page.html"))
    file = write.write(chosen)
    data = data_of(file.read_text(encoding="utf-8"))
    twin, inputs = fresh(chosen), inputs_of(chosen)
    expected = slow_attention(twin, inputs)
    assert data["kept"] == list(range(len(expected)))
    side, worst = data["grid"], 0.0
    for layer, attention in enumerate(expected):
        for image in range(chosen.images):
            found, distances = decoded(data, layer, image)
            off = np.abs(found - attention[image])
            assert np.all(off <= attention[image].max(-1, keepdims=True) / 510 + 1e-6)
            worst = max(worst, off.max())
            for patch in (0, 5, side * side - 1):
                token, slow = data["prefix"] + patch, 0.0
                for key in range(side * side):
                    away = np.hypot(patch // side - key // side, patch % side - key % side) * data["patch"]
                    slow += float(attention[image, 1, token, data["prefix"] + key]) * away
                assert distances[1, patch] == pytest.approx(slow, rel=1e-4)
    assert data["error"] == pytest.approx(worst, abs=1e-6)
    assert data["error"] > 0
    means = torch.stack(mean_distances(twin, inputs)).numpy()
    np.testing.assert_allclose(data["distances"], means, rtol=1e-4)
    maps = rollout(twin, inputs).flatten(1).numpy()
    np.testing.assert_allclose([image["rollout"] for image in data["images"]], maps, atol=1e-6)
    assert data["reads_class"] == ("gap" not in model)


def test_pictures_are_what_the_model_saw() -> None:
    shown, pictures = write.content(options()), pictures_of(options())
    for image, seen in zip(shown["images"], pictures.images, strict=True):
        assert np.array_equal(_opened(image["picture"]), seen.permute(1, 2, 0).numpy())
    assert len(set(pictures.labels)) == 3  # of as many classes as there are


def _opened(uri: str) -> np.ndarray:
    import io

    head, _, content = uri.partition(",")
    assert head in ("data:image/png;base64", "data:image/jpeg;base64")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


def test_one_row_of_steps_is_off_by_half_a_step_at_most() -> None:
    rows = torch.softmax(8 * torch.randn(2, 5, 5, generator=torch.Generator().manual_seed(0)), -1)
    rows[0, 0] = torch.tensor([1.0, 0, 0, 0, 0])
    block, error = content.pack(rows, torch.zeros(2, 4))
    data = {"heads": [2], "kept": [0], "grid": 2, "prefix": 1, "blocks": [[base64.b64encode(block).decode()]]}
    found, _ = decoded(data, 0, 0)
    assert np.abs(found - rows.numpy()).max() == pytest.approx(error, abs=1e-7)
    assert error <= 1 / 510 + 1e-7
    assert found[0, 0].tolist() == pytest.approx([1, 0, 0, 0, 0])


def test_same_options_same_page(tmp_path: Path) -> None:
    pages = [write.write(options(out=str(tmp_path / name))).read_bytes() for name in ("a.html", "b.html")]
    assert pages[0] == pages[1]
    assert write.write(options(seed=1, out=str(tmp_path / "c.html"))).read_bytes() != pages[0]


# --- size ---


@given(st.lists(st.integers(1, 50), min_size=1, max_size=24), st.integers(0, 400))
def test_the_most_layers_that_fit_stay_evenly_spread(sizes: list[int], room: int) -> None:
    chosen = content._spread(sizes, room)
    assert sum(sizes[layer] for layer in chosen) <= room
    assert chosen == sorted(set(chosen))
    if chosen:
        assert chosen[-1] == len(sizes) - 1
        gaps = np.diff(chosen)
        assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1
    if sum(sizes) <= room:
        assert chosen == list(range(len(sizes)))
    if sizes[-1] <= room:
        assert chosen


def test_a_page_stays_below_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = write.write(options(model="vit-32x4/1", images=6, out=str(tmp_path / "whole.html")))
    capsys.readouterr()
    limit = 500_000 + int(0.6 * whole.stat().st_size)  # half a megabyte is kept for the page itself
    monkeypatch.setattr(write, "LARGEST", limit)
    part = write.write(options(model="vit-32x4/1", images=6, out=str(tmp_path / "part.html")))
    data = data_of(part.read_text(encoding="utf-8"))
    assert part.stat().st_size <= limit
    assert 1 <= len(data["kept"]) < 4 == len(data["heads"])
    assert data["kept"][-1] == 3
    assert np.shape(data["distances"]) == (4, 2)
    assert "Fewer --images leave room" in capsys.readouterr().out
    one, all_ = decoded(data, 0, 2), data_of(whole.read_text(encoding="utf-8"))
    assert np.array_equal(one[0], decoded(all_, data["kept"][0], 2)[0])
    monkeypatch.setattr(write, "LARGEST", 510_000)
    with pytest.raises(UserError, match="choose fewer --images"):
        write.write(options(model="vit-32x4/1", images=6, out=str(tmp_path / "none.html")))
    assert not (tmp_path / "none.html").exists()


def test_layers_can_be_chosen() -> None:
    shown = write.content(options(layers="3 1"))
    assert shown["kept"] == [0, 2]
    assert len(shown["blocks"]) == 2
    assert len(shown["distances"]) == 3


# --- what goes into a page stays text ---


class Elements(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_hostile_names_stay_text() -> None:
    shown = write.content(options())
    plain = Elements(html.render(shown)).found
    for image in shown["images"]:
        image.update(name=HOSTILE, label=HOSTILE, predicted={"label": HOSTILE, "probability": 0.5})
    shown.update(model=HOSTILE, weights=HOSTILE, source=HOSTILE)
    page = html.render(shown)
    assert Elements(page).found == plain
    assert data_of(page) == shown
    assert "<title>Attention of &lt;/script&gt;" in page


def test_hostile_file_names_stay_text(tmp_path: Path) -> None:
    file = tmp_path / "<img src=x onerror=alert(1)> &amp; {{data}} '\".png"
    Image.new("RGB", (20, 10), (200, 30, 30)).save(file)
    page = html.render(write.content(options(files=str(file))))
    assert data_of(page)["images"][0]["name"] == file.name
    assert "onerror" not in page.replace("onerror=alert(1)\\u003e", "")


def test_nothing_is_asked_of_the_network() -> None:
    page = html.render(write.content(options()))
    found = Elements(page).found
    links = [attributes[key] for _, attributes in found for key in ("src", "href", "action") if key in attributes]
    assert set(links) <= {"data:,", "#stage"}
    assert not re.findall(r"@import|url\(|fetch\(|XMLHttpRequest|WebSocket|import\(", page)
    policy = next(a["content"] for tag, a in found if tag == "meta" and "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy


def test_every_control_has_a_label() -> None:
    page = html.render(write.content(options()))
    found = Elements(page).found
    labelled = {attributes.get("for") for tag, attributes in found if tag == "label"}
    controls = {attributes["id"] for tag, attributes in found if tag in ("select", "input")}
    assert len(controls) == 5
    assert controls == labelled
    known = {attributes["id"] for _, attributes in found if "id" in attributes}
    for _, attributes in found:
        for key in ("aria-labelledby", "aria-describedby"):
            assert key not in attributes or attributes[key] in known


# --- weights ---


def test_random_weights_are_called_so() -> None:
    shown = write.content(options())
    assert shown["random"]
    assert shown["weights"] == "random weights"
    assert all(image["predicted"] is None for image in shown["images"])
    assert "<title>Attention of vit-32x3/2, random weights</title>" in html.render(shown)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The tested weights of a run, beside its config."""
    folder = tmp_path / "0123456789ab"
    folder.mkdir()
    torch.manual_seed(7)
    model = models.build("vit-32x2/4", image_size=8, classes=10)
    torch.nn.init.normal_(model.get_submodule("head").weight)  # type: ignore[arg-type]
    torch.save(model.state_dict(), folder / "weights.ckpt")
    config = {"model": "vit-32x2/4", "image_size": 8, "dataset": "digits", "normalisation": "model", "lr": None}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder / "weights.ckpt"


def test_weights_of_a_run_bring_its_config(run: Path) -> None:
    chosen = write.read([f"--weights={run}", "--images=2"])
    assert (chosen.model, chosen.image_size, chosen.dataset) == ("vit-32x2/4", 8, "digits")
    assert chosen.page == Path("outputs/explorer/vit-32x2_4-digits-0123456789ab.html")
    assert write.read([f"--weights={run}", "--image_size=16"]).image_size == 16
    shown = write.content(chosen)
    assert not shown["random"]
    assert shown["weights"].startswith("weights 0123456789ab/weights.ckpt (SHA-256 ")
    assert str(run.parent.parent) not in json.dumps(shown)
    twin = models.build("vit-32x2/4", image_size=8, classes=10)
    weights.load(twin, "vit-32x2/4", str(run), image_size=8, keep_head=True)
    inputs = inputs_of(chosen)
    expected = slow_attention(twin, inputs)[1][1]
    assert np.abs(decoded(shown, 1, 1)[0] - expected).max() <= expected.max() / 510 + 1e-6
    with torch.no_grad():
        likely = twin(inputs).softmax(1).max(1)
    for image, value, label in zip(shown["images"], likely.values, likely.indices, strict=True):
        assert image["predicted"]["label"] == str(int(label))
        assert image["predicted"]["probability"] == pytest.approx(float(value), abs=1e-4)


def test_a_config_that_is_none_is_refused(run: Path) -> None:
    run.with_name("config.yaml").write_bytes(b"model: [\xff")
    with pytest.raises(UserError, match=r"config\.yaml. beside the weights cannot be read"):
        write.read([f"--weights={run}"])


def test_weights_that_have_diverged_are_refused(run: Path) -> None:
    state = torch.load(run, weights_only=True)
    state["blocks.1.attn.qkv.weight"][:] = float("nan")
    torch.save(state, run)
    with pytest.raises(UserError, match="layer 2 is not finite: these weights have diverged"):
        write.content(write.read([f"--weights={run}", "--images=1"]))


# --- own images ---


def test_own_images_of_any_kind(tmp_path: Path) -> None:
    grey, tall, huge = (tmp_path / name for name in ("grey.png", "tall.jpg", "huge.png"))
    Image.fromarray(np.arange(400, dtype=np.uint8).reshape(20, 20)).save(grey)
    Image.new("RGB", (30, 90), (10, 200, 10)).save(tall)
    Image.new("L", (6000, 4000), 7).save(huge)
    shown = write.content(
        write.read(["--model=vit-32x2/8", "--image_size=112", f"--files={grey},{tall},{huge}", "--images=1"])
    )
    assert [image["name"] for image in shown["images"]] == ["grey.png", "tall.jpg", "huge.png"]
    assert [_opened(image["picture"]).shape for image in shown["images"]] == [(112, 112, 3)] * 3
    assert all(image["label"] == "" and image["predicted"] is None for image in shown["images"])


# --- errors: one sentence, exit code 2, nothing written ---


@pytest.mark.parametrize(
    ("tokens", "sentence"),
    [
        (["--model=resnet18"], "no attention to look at"),
        (["--model=swin-t", "--image_size=224"], "attends within windows"),
        (["--model=vit-32x3/3"], "do not divide into patches of 3 pixels"),
        (["--model=vit-32x3/1", "--image_size=64"], "expected at most 1024"),
        (["--model=wit-b/16"], 'Did you mean "vit-b/16"?'),
        (["--weights=nowhere.ckpt"], "no weight file"),
        (["--weights=FOLDER"], "is a folder: expected a weight file"),
        (["--weights=OTHER"], "is not a vit-32x3/2"),
        (["--images=0"], "--images=0 is too small"),
        (["--images=1000000"], "is too many: the val split of digits has"),
        (["--files=gone.png"], 'there is no "gone.png"'),
        (["--files=FOLDER"], "is a folder: expected image files"),
        (["--files=TEXT"], "is no whole image"),
        (["--files="], None),
        (["--files=,"], "names no image"),
        (["--out=FOLDER"], "is a folder: expected a file"),
        (["--out=page.txt"], "expected a name that ends in .html"),
        (["--out=TEXT/page.html"], "cannot be written"),
        (["--layers=9"], "there is no layer 9: expected 1 to 3"),
        (["--layers=last"], "is not a list of layers"),
        (["--layers=0"], "is not a list of layers"),
        (["--normalisation=mean-image"], "is measured on the training images"),
        (["--normalisation=hlaf"], 'Did you mean "half"?'),
        (["--dataset=digit"], 'Did you mean "digits"?'),
        (["--image=3"], 'Did you mean "images"?'),
        (["--model=a,b"], "--model takes one value"),
    ],
)
def test_errors_are_one_sentence(
    tokens: list[str], sentence: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.png").write_text("no image")
    torch.save(models.build("vit-32x3/4", image_size=8, classes=10).state_dict(), tmp_path / "other.ckpt")
    places = {"FOLDER": tmp_path / "folder", "TEXT": tmp_path / "text.png", "OTHER": tmp_path / "other.ckpt"}
    for word, path in places.items():
        tokens = [token.replace(word, str(path)) for token in tokens]
    out = tmp_path / "out.html"
    base = ["--model=vit-32x3/2", "--image_size=8", "--dataset=digits", "--images=2", f"--out={out}"]
    code = write.main([*base, *tokens])
    said = capsys.readouterr().err
    if sentence is None:
        assert (code, said) == (0, "")
        return
    assert code == 2
    assert said.startswith("explorer: ")
    assert said.count("\n") == 1
    assert sentence in said
    assert not out.exists()


def test_the_command_needs_no_torch_to_explain_itself() -> None:
    code = "import sys, vision_repro.explorer.write as e; e.main(['--help']); assert 'torch' not in sys.modules"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert "--image_size" in said
