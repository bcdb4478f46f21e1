import math

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vision_repro import models
from vision_repro.config import UserError
from vision_repro.models import vit
from vision_repro.models.variants import Options, parse_options, parse_size
from vision_repro.models.vit import ViT

# ViT, Table 1, and google-research/vision_transformer, vit_jax/configs/models.py: computed parameters with 1000 classes
# and without head, at 224 pixels. (Table 1 prints 307M for ViT-L; that is the L/32 with head.)
PUBLISHED = {
    "vit-b/16": (86_567_656, 85_798_656),
    "vit-b/32": (88_224_232, 87_455_232),
    "vit-l/16": (304_326_632, 303_301_632),
    "vit-l/32": (306_535_400, 305_510_400),
    "vit-h/14": (632_045_800, 630_764_800),
    "vit-ti/16": (5_717_416, 5_524_416),
    "vit-s/16": (22_050_664, 21_665_664),
    "vit-s/32": (22_878_952, 22_493_952),
    "vit-b-half/32": (22_878_952, 22_493_952),
}


# every option, and some together
OPTIONS = [
    "", "-gap", "-pos0", "-pos2d", "-posrel", "-every", "-shared", "-pos2d-every", "-pos2d-shared", "-tanh", "-drop0.1",
    "-gap-pos0", "-gap-posrel", "-gap-pos2d-every-tanh", "-gap-shared-drop0.25",
]  # fmt: skip


def vision_transformer(name: str, image_size: int = 8) -> ViT:
    model = models.build(name, image_size=image_size, classes=10)
    assert isinstance(model, ViT)
    return model


def shaken(name: str, image_size: int = 8) -> ViT:
    """A model away from the zeros and ones that some parameters start at, in eval mode."""
    torch.manual_seed(0)
    model = vision_transformer(name, image_size)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.2 * torch.randn_like(value))
    return model.eval()


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_the_published(name: str) -> None:
    with torch.device("meta"):
        model = models.build(name, image_size=224, classes=1000)
    assert isinstance(model, VisionTransformer)
    head = models.parameters(model.head)
    assert (models.parameters(model), models.parameters(model) - head) == PUBLISHED[name]


def test_what_is_published_is_what_is_tested() -> None:
    assert {item.name: item.parameters for item in vit.PUBLISHED} == {name: both[0] for name, both in PUBLISHED.items()}


def test_parameters_are_the_closed_form() -> None:
    width, depth, patch, image_size, classes = 64, 4, 2, 8, 10
    block = 12 * width**2 + 13 * width
    embedding = (3 * patch**2 + 1) * width + width + ((image_size // patch) ** 2 + 1) * width
    expected = embedding + depth * block + 2 * width + (width + 1) * classes
    assert models.parameters(vision_transformer("vit-64x4/2")) == expected == 202_698


@pytest.mark.parametrize(
    ("size", "expected"),
    [("32x4", (32, 4, 2)), ("64x4", (64, 4, 4)), ("128x6", (128, 6, 4)), ("512x8", (512, 8, 8)), ("h", (1280, 32, 16))],
)
def test_sizes(size: str, expected: tuple[int, int, int]) -> None:
    assert parse_size(size) == expected


def test_starts_as_the_released_code_does() -> None:
    torch.manual_seed(0)
    model = vision_transformer("vit-64x2/2")
    assert not model.head.weight.any()
    assert not model.head.bias.any()
    assert not model.cls_token.any()
    assert model.pos_embed.std().item() == pytest.approx(0.02, rel=0.1)
    bound = (6 / (64 + 64)) ** 0.5
    for part in model.blocks[0].attn.qkv.weight.chunk(3):
        assert 0.98 * bound < part.abs().max().item() <= bound
    assert not model.blocks[0].attn.qkv.bias.any()
    assert model.blocks[0].mlp.fc1.bias.std().item() == pytest.approx(1e-6, rel=0.5)


def norm(tokens: Tensor, weights: dict[str, Tensor], key: str) -> Tensor:
    centred = tokens - tokens.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    return scaled * weights[f"{key}.weight"] + weights[f"{key}.bias"]


def dense(tokens: Tensor, weights: dict[str, Tensor], key: str) -> Tensor:
    return tokens @ weights[f"{key}.weight"].T + weights[f"{key}.bias"]


def attention(tokens: Tensor, weights: dict[str, Tensor], key: str, heads: int) -> Tensor:
    """Attention of one image's tokens [T, D], one head and one pair of tokens after another."""
    count, width = tokens.shape
    parts = dense(tokens, weights, f"{key}.qkv").reshape(count, 3, heads, width // heads)
    offsets = weights.get(f"{key}.offsets")
    mixed = torch.zeros(count, heads, width // heads)
    for head in range(heads):
        query, keys, values = parts[:, :, head].unbind(1)
        logits = torch.zeros(count, count)
        for q in range(count):
            for k in range(count):
                logits[q, k] = query[q] @ keys[k]
                if offsets is not None:  # the row of the offset q - k; rows are in falling order
                    row = offsets[count - 1 - (q - k)].reshape(heads, -1)[head]
                    logits[q, k] += query[q] @ row
        mixed[:, head] = (logits / math.sqrt(width // heads)).softmax(1) @ values
    return dense(mixed.reshape(count, width), weights, f"{key}.proj")


def position(weights: dict[str, Tensor], layer: int, options: Options, side: int) -> Tensor:
    """What is added to the input of a layer, [T, D], or zero."""
    if options.position in ("pos0", "posrel") or (layer > 0 and not options.placement):
        return torch.zeros(1)
    table = f"positions.tables.{layer if options.placement == 'every' else 0}"
    if options.position == "pos2d":
        columns, rows = weights[f"{table}.columns"], weights[f"{table}.rows"]
        patches = [torch.cat((columns[x], rows[y])) for y in range(side) for x in range(side)]
        return torch.stack([*weights.get(f"{table}.class_row", []), *patches])
    return weights[f"{table}.table" if options.placement else "pos_embed"][0]


def plain(model: ViT, image: Tensor, options: Options) -> Tensor:
    """The logits [K] of one image [3, H, W], written out from the equations of the paper."""
    weights = {key: value.detach() for key, value in model.state_dict().items()}
    kernel, heads = weights["patch_embed.proj.weight"], model.blocks[0].attn.num_heads
    patch, side = kernel.shape[-1], image.shape[-1] // kernel.shape[-1]
    corners = [(patch * y, patch * x) for y in range(side) for x in range(side)]
    cut = torch.stack([image[:, y : y + patch, x : x + patch].flatten() for y, x in corners])
    tokens = cut @ kernel.flatten(1).T + weights["patch_embed.proj.bias"]
    if options.pooling != "gap":
        tokens = torch.cat((weights["cls_token"][0], tokens))
    for layer in range(len(model.blocks)):
        key = f"blocks.{layer}"
        tokens = tokens + position(weights, layer, options, side)
        tokens = tokens + attention(norm(tokens, weights, f"{key}.norm1"), weights, f"{key}.attn", heads)
        hidden = dense(norm(tokens, weights, f"{key}.norm2"), weights, f"{key}.mlp.fc1")
        active = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
        tokens = tokens + dense(active, weights, f"{key}.mlp.fc2")
    tokens = norm(tokens, weights, "norm")
    found = tokens.mean(0) if options.pooling == "gap" else tokens[0]
    if options.hidden:
        found = dense(found, weights, "pre_logits.fc").tanh()
    return dense(found, weights, "head")


@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize("options", OPTIONS)
def test_logits_are_those_of_the_equations(options: str, explicit: bool) -> None:
    model, image = shaken(f"vit-32x3/2{options}"), torch.randn(3, 8, 8)
    models.use_explicit_attention(model, explicit)
    with torch.no_grad():
        torch.testing.assert_close(
            model(image[None])[0], plain(model, image, parse_options(options)), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize(
    ("options", "more"),
    [
        ("-gap", -2 * 32),  # no class token, and no row for it
        ("-pos0", -17 * 32),
        ("-pos2d", -16 * 32 + 2 * 4 * 16),
        ("-posrel", -17 * 32 + 3 * 33 * 32),
        ("-every", 2 * 17 * 32),
        ("-shared", 0),
        ("-pos2d-every", -17 * 32 + 3 * (32 + 2 * 4 * 16)),
        ("-tanh", 32 * 33),
        ("-drop0.1", 0),
    ],
)
def test_parameters_of_an_option(options: str, more: int) -> None:
    default = models.parameters(vision_transformer("vit-32x3/2"))
    assert models.parameters(vision_transformer(f"vit-32x3/2{options}")) - default == more


@pytest.mark.parametrize("options", ["-gap-pos0", "-pos0"])
def test_without_positions_the_patches_are_a_bag(options: str) -> None:
    model = shaken(f"vit-32x2/4{options}", 8)
    images = torch.randn(2, 3, 8, 8)
    swapped = torch.cat((images[..., 4:], images[..., :4]), 3)  # left and right patches
    torch.testing.assert_close(model(swapped), model(images), rtol=1e-5, atol=1e-5)
    ordered = shaken("vit-32x2/4", 8)
    assert not torch.allclose(ordered(swapped), ordered(images), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("options", OPTIONS)
def test_new_parts_start_as_documented(options: str) -> None:
    torch.manual_seed(0)
    model = vision_transformer(f"vit-256x2/2{options}")
    assert not model.head.weight.any()
    tables = [value for name, value in model.named_parameters() if name.startswith("positions.") or "offsets" in name]
    assert bool(tables) == any(word in options for word in ("pos2d", "posrel", "every", "shared"))
    for table in tables:
        assert table.std().item() == pytest.approx(0.02, rel=0.15)
    if "tanh" in options:
        layer = model.get_submodule("pre_logits.fc")
        assert layer.get_parameter("weight").std().item() == pytest.approx(256**-0.5, rel=0.05)
        assert not layer.get_parameter("bias").any()


@pytest.mark.parametrize("options", OPTIONS)
def test_what_embeds_positions_is_not_decayed(options: str) -> None:
    model = vision_transformer(f"vit-32x2/2{options}")
    decayed = {name for name, value in model.named_parameters() if value.ndim > 1} - model.no_weight_decay()
    assert all(name.endswith(".weight") for name in decayed)
    assert {"patch_embed.proj.weight", "blocks.1.attn.qkv.weight", "head.weight"} <= decayed


def test_dropout_is_where_the_paper_has_it() -> None:
    model = vision_transformer("vit-32x2/2-drop0.1")
    rates = {name: item.p for name, item in model.named_modules() if isinstance(item, nn.Dropout) and item.p}
    in_a_block = ("attn.proj_drop", "mlp.drop1", "mlp.drop2")
    assert rates == {"pos_drop": 0.1, **{f"blocks.{i}.{part}": 0.1 for i in (0, 1) for part in in_a_block}}


@pytest.mark.parametrize("options", ["-drop0.5", "-every-drop0.5", "-gap-pos2d-drop0.5"])
def test_dropout_acts_in_training_alone(options: str) -> None:
    model, images = shaken(f"vit-32x2/2{options}"), torch.randn(2, 3, 8, 8)
    assert torch.equal(model(images), model(images))
    model.train()
    assert not torch.equal(model(images), model(images))
    dropped = [torch.count_nonzero(model._pos_embed(torch.ones(2, 16, 32)) == 0).item() for _ in range(20)]
    assert sum(dropped) / len(dropped) == pytest.approx(0.5 * 2 * (16 + ("gap" not in options)) * 32, rel=0.1)


@pytest.mark.parametrize("options", ["", "-pos2d-every", "-posrel"])
def test_recomputed_blocks_give_the_same_gradient(options: str) -> None:
    gradients = []
    for again in (False, True):
        model = shaken(f"vit-32x2/2{options}").train()
        model.set_grad_checkpointing(again)
        torch.manual_seed(1)
        model(torch.randn(2, 3, 8, 8)).square().sum().backward()
        gradients.append(torch.cat([value.grad.flatten() for value in model.parameters() if value.grad is not None]))
    torch.testing.assert_close(gradients[0], gradients[1])
    assert len(gradients[0]) == models.parameters(vision_transformer(f"vit-32x2/2{options}"))


def test_timms_intermediates_where_they_are_right() -> None:
    images = torch.randn(1, 3, 8, 8)
    model = shaken("vit-32x2/2-pos2d")
    torch.testing.assert_close(model.forward_intermediates(images)[0], model.forward_features(images))
    with pytest.raises(NotImplementedError, match="no position embedding after the first layer"):
        shaken("vit-32x2/2-every").forward_intermediates(images)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Options()),
        ("-gap", Options(pooling="gap")),
        ("-pos2d-every-tanh-drop0.05", Options("", "pos2d", "every", "tanh", "drop0.05")),
    ],
)
def test_options(text: str, expected: Options) -> None:
    assert parse_options(text) == expected


def test_rate_of_dropout() -> None:
    assert (parse_options("").rate, parse_options("-drop0.05").rate) == (0.0, 0.05)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("-gpa", r'option "-gpa" is unknown: expected one of -gap, .*Did you mean "gap"'),
        ("-pos1d", 'option "-pos1d" is unknown'),
        ("-drop1.0", 'option "-drop1.0" is unknown: .*as in -drop0.1'),
        ("-drop0.10", "unknown"),
        ("-drop0.0", "unknown"),
        ("-drop", "unknown"),
        ("-gap-gap", "exclude each other"),
        ("-pos0-pos2d", '"-pos0" and "-pos2d" exclude each other'),
        ("-every-shared", "exclude each other"),
        ("-pos0-every", '"-every" places a table, and "-pos0" has none'),
        ("-posrel-shared", '"-posrel" has none'),
        ("-tanh-gap", 'another order than expected: write "-gap-tanh"'),
        ("-drop0.1-pos2d-gap", 'write "-gap-pos2d-drop0.1"'),
    ],
)
def test_options_that_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        models.build(f"vit-32x2/2{text}", image_size=8, classes=10)


def test_layer_norm_epsilon_is_that_of_flax() -> None:
    norms = [item for item in vision_transformer("vit-32x1/2").modules() if isinstance(item, nn.LayerNorm)]
    assert len(norms) == 3
    assert {item.eps for item in norms} == {1e-6}


def test_features_are_the_class_token_after_the_norm() -> None:
    model = vision_transformer("vit-32x2/2").eval()
    images = torch.randn(3, 3, 8, 8)
    assert torch.equal(models.features(model, images), model.forward_features(images)[:, 0])


def count_softmax_matrices(model: VisionTransformer) -> int:
    calls: list[int] = []
    handles = [block.attn.attn_drop.register_forward_hook(lambda *_: calls.append(1)) for block in model.blocks]
    model(torch.randn(2, 3, 8, 8))
    for handle in handles:
        handle.remove()
    return len(calls)


def test_explicit_attention_builds_one_matrix_for_each_block() -> None:
    model = vision_transformer("vit-32x3/2").eval()
    models.use_explicit_attention(model, False)
    assert count_softmax_matrices(model) == 0
    models.use_explicit_attention(model, True)
    assert count_softmax_matrices(model) == 3


def test_features_of_gap_are_the_mean_of_the_patches_after_the_norm() -> None:
    model = shaken("vit-32x2/2-gap")
    images = torch.randn(3, 3, 8, 8)
    tokens = model.forward_features(images)
    assert tokens.shape == (3, 16, 32)
    torch.testing.assert_close(models.features(model, images), tokens.mean(1))


def test_features_of_tanh_are_the_hidden_layer() -> None:
    model = shaken("vit-32x2/2-tanh")
    images = torch.randn(3, 3, 8, 8)
    found = models.features(model, images)
    assert found.abs().max() < 1
    torch.testing.assert_close(model.head(found), model(images))


@pytest.mark.parametrize(
    ("name", "image_size"),
    [("vit-64x4/2", 8), ("r8x0.25+vit-64x3/2", 8), ("vit-128x2/4", 32), ("vit-64x2/4-posrel", 32)],
)
def test_explicit_and_fused_attention_agree(name: str, image_size: int) -> None:
    torch.manual_seed(0)
    model = vision_transformer(name, image_size).eval()
    nn.init.normal_(model.head.weight)
    images = torch.randn(4, 3, image_size, image_size)
    models.use_explicit_attention(model, True)
    explicit = model(images)
    models.use_explicit_attention(model, False)
    torch.testing.assert_close(model(images), explicit, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "image_size", "message"),
    [
        ("vit-64x4/3", 8, "8-pixel images do not divide into patches of 3"),
        ("vit-64x4/0", 8, "patches of 0"),
        ("vit-65x4/2", 8, "a width that 32 divides"),
        ("vit-0x4/2", 8, "at least one block"),
        ("vit-bb/16", 32, 'size "bb" is unknown'),
    ],
)
def test_names_that_cannot_be_built(name: str, image_size: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        models.build(name, image_size=image_size, classes=10)
