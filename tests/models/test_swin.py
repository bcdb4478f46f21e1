import pytest
import timm
import torch
from timm.models.swin_transformer import SwinTransformer
from torch import nn

from vision_repro import models
from vision_repro.config import UserError
from vision_repro.models.layers.swin_blocks import Block, WindowAttention
from vision_repro.models.layers.swin_plan import plan
from vision_repro.models.swin import Swin


def swin(name: str, image_size: int = 8, classes: int = 10) -> Swin:
    torch.manual_seed(0)
    model = models.build(name, image_size=image_size, classes=classes)
    assert isinstance(model, Swin)
    return model


def attentions(model: nn.Module) -> list[WindowAttention]:
    return [item for item in model.modules() if isinstance(item, WindowAttention)]


def on_meta(name: str, image_size: int) -> Swin:
    with torch.device("meta"):
        return swin(name, image_size)


# --- against timm's ---


def test_is_timms_network() -> None:
    torch.manual_seed(0)
    theirs = timm.create_model("swin_tiny_patch4_window7_224", num_classes=10, drop_path_rate=0).eval()
    ours = swin("swin-t", 224).eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(models.features(ours, images), models.features(theirs, images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "image_size", "twin"),
    [
        ("swin-t", 224, "swin_tiny_patch4_window7_224"),
        ("swin-s", 224, "swin_small_patch4_window7_224"),
        ("swin-b", 384, "swin_base_patch4_window12_384"),
        ("swin-l", 384, "swin_large_patch4_window12_384"),
    ],
)
def test_weights_have_timms_names_and_shapes(name: str, image_size: int, twin: str) -> None:
    with torch.device("meta"):
        theirs = timm.create_model(twin, num_classes=10)
    expected = {key: value.shape for key, value in theirs.state_dict().items()}
    ours = on_meta(name, image_size)
    assert {key: value.shape for key, value in ours.state_dict().items()} == expected
    assert ours.no_weight_decay() == theirs.no_weight_decay()


@pytest.mark.parametrize(("name", "windows"), [("swin-32x2.3/2", (4, 4)), ("swin-32x2.3/2-global", (8, 4))])
def test_small_ones_and_their_gradients_are_timms(name: str, windows: tuple[int, int]) -> None:
    ours = swin(name, 16)
    sides = [(window, window) for window in windows]
    theirs = SwinTransformer(16, 2, 3, 10, "avg", 32, (2, 3), (2, 4), window_size=sides, drop_path_rate=0)
    for value in ours.parameters():
        nn.init.normal_(value, std=0.1)
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(3, 3, 16, 16)
    for model in (ours, theirs):
        torch.autograd.backward(nn.functional.cross_entropy(model(images), torch.arange(3)))
    expected = dict(theirs.named_parameters())
    for key, value in ours.named_parameters():
        torch.testing.assert_close(value.grad, expected[key].grad, rtol=1e-3, atol=1e-5)


# --- the grammar ---


@pytest.mark.parametrize(
    ("name", "image_size", "windows", "shifts"),
    [
        ("swin-t", 224, (7, 7, 7, 7), (3, 3, 3, 0)),
        ("swin-t", 384, (12, 12, 12, 12), (6, 6, 6, 0)),
        ("swin-t", 256, (8, 8, 8, 8), (4, 4, 4, 0)),
        ("swin-t-w14", 224, (14, 14, 14, 7), (7, 7, 0, 0)),
        ("swin-t-noshift", 224, (7, 7, 7, 7), (0, 0, 0, 0)),
        ("swin-t-global", 224, (56, 28, 14, 7), (0, 0, 0, 0)),
        ("swin-t", 32, (4, 4, 2, 1), (2, 0, 0, 0)),
        ("swin-32x2.2/1", 8, (4, 4), (2, 0)),
        ("swin-32x2.2/2-w2", 32, (2, 2), (1, 1)),
        ("swin-32x2.2.2/4", 64, (4, 4, 4), (2, 2, 0)),
        ("swin-32x2/1", 2, (2,), (0,)),
    ],
)
def test_windows_and_shifts(name: str, image_size: int, windows: tuple[int, ...], shifts: tuple[int, ...]) -> None:
    assert plan(name, image_size).windows == windows
    model = on_meta(name, image_size)
    for stage, window, shift in zip(model.layers, windows, shifts, strict=True):
        found = attentions(stage)
        assert [(item.window, item.shift) for item in found[:2]] == [(window, 0), (window, shift)]
        assert {item.shift for item in found[::2]} == {0}


def test_options_take_away_and_add_what_they_say() -> None:
    counts = {
        name: models.parameters(on_meta(name, 224))
        for name in ("swin-t", "swin-t-nobias", "swin-t-abspos", "swin-t-nobias-abspos", "swin-t-noshift")
    }
    tables = 13**2 * (2 * 3 + 2 * 6 + 6 * 12 + 2 * 24)
    position = 56**2 * 96
    assert counts["swin-t"] - counts["swin-t-nobias"] == tables
    assert counts["swin-t-abspos"] - counts["swin-t"] == position
    assert counts["swin-t-nobias-abspos"] == counts["swin-t"] - tables + position
    assert counts["swin-t-noshift"] == counts["swin-t"]


def test_no_weight_decay() -> None:
    found = swin("swin-32x1.2/1-abspos").no_weight_decay()
    tables = {
        f"layers.{place}.attn.relative_position_bias_table" for place in ("0.blocks.0", "1.blocks.0", "1.blocks.1")
    }
    assert found == {"absolute_pos_embed"} | tables
    assert swin("swin-32x1.2/1-nobias").no_weight_decay() == set()


def reach(name: str) -> torch.Tensor:
    """Returns which of 8 x 8 pixels the first token of the first stage depends on."""
    model = swin(name)
    images = torch.randn(1, 3, 8, 8, requires_grad=True)
    tokens = model.layers[0](model.patch_embed(images))
    torch.autograd.backward(tokens[0, 0, 0].square().sum())
    assert images.grad is not None
    # across the seam softmax leaves exp(-100)
    return images.grad[0].abs().sum(0) > 1e-20


def test_shifted_windows_connect_windows() -> None:
    window = torch.zeros(8, 8, dtype=torch.bool)
    window[:4, :4] = True
    assert torch.equal(reach("swin-32x2.2/1-noshift"), window)
    # its shifted window is cut at the edge of the map, to rows and columns 0 and 1, all of its own window
    assert torch.equal(reach("swin-32x2.2/1"), window)
    assert reach("swin-32x3.2/1-global").all()
    # the third block sees the windows of the second, from 2 to 5, which saw all four of the first
    assert reach("swin-32x3.2/1").all()
    assert not reach("swin-32x3.2/1-noshift")[4:].any()


def test_positions_matter_with_an_embedding_or_bias_only() -> None:
    images = torch.randn(2, 3, 8, 8)
    turned = images.transpose(2, 3)
    for name, sees in (("-nobias", False), ("", True), ("-nobias-abspos", True)):
        # patches of one pixel and a single window: without positions attention is blind to the order of tokens
        model = swin(f"swin-32x2/1-global{name}").eval()
        for value in model.parameters():
            nn.init.normal_(value, std=0.5)
        for item in attentions(model):
            if item.relative_position_bias_table is not None:
                nn.init.normal_(item.relative_position_bias_table, std=3)
        with torch.no_grad():
            difference = (model(images) - model(turned)).abs().max().item()
        assert difference > 1e-3 if sees else difference < 1e-5


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("swin-32x2.3/1", [0.0] * 5),
        ("swin-32x2.3/1-droppath0.4", [0.0, 0.1, 0.2, 0.3, 0.4]),
        ("swin-32x1/1-droppath0.4", [0.0]),
        ("swin-32x2/1-droppath0", [0.0, 0.0]),
    ],
)
def test_stochastic_depth(name: str, rates: list[float]) -> None:
    blocks = [item for item in swin(name).modules() if isinstance(item, Block)]
    found = [getattr(block.drop_path, "drop_prob", 0.0) for block in blocks]
    assert found == pytest.approx(rates)


@pytest.mark.parametrize(("name", "last"), [("swin-t", 0.2), ("swin-s", 0.3), ("swin-b", 0.5), ("swin-l", 0.2)])
def test_published_stochastic_depth(name: str, last: float) -> None:
    assert plan(f"{name}-droppath", 224).drop_path == last
    assert plan(name, 224).drop_path == 0


def test_small_ones_start_by_xaviers_rule() -> None:
    weight = swin("swin-32x2.2/1").get_parameter("layers.0.blocks.0.mlp.fc1.weight")
    bound = (6 / (32 + 128)) ** 0.5
    assert 0.98 * bound < weight.abs().max().item() <= bound


def test_starts_as_the_released_code_does() -> None:
    model = swin("swin-96x2.2/1-abspos")
    for key, value in model.named_parameters():
        if key.endswith(("qkv.weight", "fc1.weight", "reduction.weight", "pos_embed", "bias_table")):
            assert value.std().item() == pytest.approx(0.02, rel=0.15), key
        elif key.endswith("bias") and not key.startswith("patch_embed.proj"):
            assert not value.any(), key


@pytest.mark.parametrize("name", ["swin-32x2.2/1", "swin-32x2.2/1-nobias", "swin-32x2.2/1-global"])
def test_explicit_and_fused_attention_agree(name: str) -> None:
    model, images = swin(name).eval(), torch.randn(4, 3, 8, 8)
    models.use_explicit_attention(model, True)
    assert not any(item.fused_attn for item in attentions(model))
    explicit = model(images)
    models.use_explicit_attention(model, False)
    assert all(item.fused_attn for item in attentions(model))
    torch.testing.assert_close(model(images), explicit, rtol=1e-4, atol=1e-5)


def test_features_are_the_mean_of_the_last_map() -> None:
    model, images = swin("swin-32x2.2/1").eval(), torch.randn(3, 3, 8, 8)
    found = model.forward_features(images)
    assert found.shape == (3, 4, 4, 64)
    torch.testing.assert_close(models.features(model, images), found.mean((1, 2)))
    assert torch.equal(model(images), model.get_classifier()(models.features(model, images)))


@pytest.mark.parametrize("name", ["swin-32x2.2/1", "swin-32x1.1/1-nobias-abspos"])
def test_learns_a_small_batch_by_heart(name: str) -> None:
    model, images, labels = swin(name), torch.randn(16, 3, 8, 8), torch.arange(16) % 10
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(40):
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    assert loss.item() < 0.1


@pytest.mark.parametrize(
    ("name", "image_size", "message"),
    [
        ("swin-x", 224, 'size "x" is unknown: expected t, s, b, l or'),
        ("swin-t-noshft", 224, 'option "noshft" is unknown.*Did you mean "noshift"'),
        ("swin-t", 240, "240-pixel images do not divide by the stride 32"),
        ("swin-t/0", 224, "stride 0"),
        ("swin-t-w5", 224, "a map of 56 x 56 tokens does not divide into windows of 5; choose .* such as -w7"),
        ("swin-32x2.2/2", 28, "a map of 14 x 14 tokens does not divide into windows of 4; .* -w7"),
        ("swin-t-w0", 224, "windows of 0"),
        ("swin-t-w", 224, "-w: expected -w<M>"),
        ("swin-t-w7-w8", 224, "each once"),
        ("swin-t-noshift2", 224, "others without a number"),
        ("swin-t-global-w7", 224, "-global has one window and no shift"),
        ("swin-40x2.2/1", 8, "a width that 16 divides"),
        ("swin-112x2.2/1", 8, "32 from 96 on"),
        ("swin-32x2.0/1", 8, "at least one block a stage"),
        ("swin-t-droppath1", 224, "a rate from 0 to below 1"),
        ("swin-32x2.2/1-droppath", 8, "such as -droppath0.1"),
    ],
)
def test_names_that_cannot_be_built(name: str, image_size: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        models.build(name, image_size=image_size, classes=10)
