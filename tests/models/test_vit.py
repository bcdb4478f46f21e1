import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from vision_repro import models
from vision_repro.config import UserError
from vision_repro.models import vit

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


def vision_transformer(name: str, image_size: int = 8) -> VisionTransformer:
    model = models.build(name, image_size=image_size, classes=10)
    assert isinstance(model, VisionTransformer)
    return model


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_the_published(name: str) -> None:
    with torch.device("meta"):
        model = models.build(name, image_size=224, classes=1000)
    assert isinstance(model, VisionTransformer)
    head = models.parameters(model.head)
    assert (models.parameters(model), models.parameters(model) - head) == PUBLISHED[name]


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
    assert vit.parse_size(size) == expected


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


@pytest.mark.parametrize(("name", "image_size"), [("vit-64x4/2", 8), ("r8x0.25+vit-64x3/2", 8), ("vit-128x2/4", 32)])
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
