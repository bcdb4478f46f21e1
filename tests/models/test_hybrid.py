import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer

from vision_repro import models
from vision_repro.config import UserError
from vision_repro.models import hybrid
from vision_repro.models.hybrid import stages

# google-research/vision_transformer, vit_jax/configs/models.py (R50+B/32 and R50+L/16 by analogy, from ViT, Table 6):
# computed parameters without head, and tokens with the class token, at 224 pixels
PUBLISHED = {
    "r50+vit-b/32": (110_176_832, 50),
    "r50+vit-b/16": (97_890_112, 197),
    "r50+vit-l/32": (327_969_856, 50),
    "r50+vit-l/16": (315_458_624, 197),
    "r26+vit-s/32": (36_046_912, 50),
    "r26+vit-b/32": (100_614_976, 50),
    "r+vit-ti/32": (6_144_704, 50),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_tokens_are_the_published(name: str) -> None:
    with torch.device("meta"):
        model = models.build(name, image_size=224, classes=1000)
    assert isinstance(model, VisionTransformer)
    body = models.parameters(model) - models.parameters(model.head)
    assert (body, model.pos_embed.shape[1]) == PUBLISHED[name]


def test_what_is_published_with_a_head_is_what_is_published_without() -> None:
    for item in hybrid.PUBLISHED:
        width = {"b": 768, "l": 1024, "s": 384, "ti": 192}[item.name.split("vit-")[1].split("/")[0]]
        assert item.parameters == PUBLISHED[item.name][0] + (width + 1) * 1000
    assert {item.name for item in hybrid.PUBLISHED} == set(PUBLISHED)


@pytest.mark.parametrize(
    ("name", "twin"), [("r26+vit-s/32", "vit_small_r26_s32_224"), ("r+vit-ti/32", "vit_tiny_r_s16_p8_224")]
)
def test_is_timms_published_network(name: str, twin: str) -> None:
    torch.manual_seed(0)
    ours = models.build(name, image_size=224, classes=2).eval()
    theirs = timm.create_model(twin, num_classes=2).eval()
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(models.features(ours, images), models.features(theirs, images))


@pytest.mark.parametrize(
    ("blocks", "stem", "stride", "expected"),
    [
        ((3, 4, 6, 3), 4, 32, (3, 4, 6, 3)),
        ((3, 4, 6, 3), 4, 16, (3, 4, 9)),  # ViT, section 4.1: stage 4 moved into stage 3
        ((1, 1), 1, 2, (1, 1)),
        ((1, 1, 1), 2, 2, (3,)),
    ],
)
def test_stages(blocks: tuple[int, ...], stem: int, stride: int, expected: tuple[int, ...]) -> None:
    assert stages(blocks, stem, stride) == expected


@pytest.mark.parametrize(
    ("name", "image_size"),
    [
        ("r8x0.25+vit-64x3/2", 8),
        ("r8x0.25/2+vit-64x3/4", 32),
        ("r8x0.25+vit-64x3/2-pos2d-drop0.1", 8),
        ("rx0.25+vit-64x2/4", 8),
        ("r/4+vit-64x1/8", 32),
    ],
)
def test_a_token_every_stride(name: str, image_size: int) -> None:
    model = models.build(name, image_size=image_size, classes=10)
    assert isinstance(model, VisionTransformer)
    stride = int(name.rsplit("/", 1)[1].split("-")[0])
    tokens = model.patch_embed(torch.randn(2, 3, image_size, image_size))
    assert tokens.shape == (2, (image_size // stride) ** 2, 64)


def test_last_norm_of_each_block_starts_at_zero() -> None:
    model = models.build("r8x0.25+vit-64x1/2", image_size=8, classes=10)
    scales = [value for name, value in model.named_parameters() if name.endswith("norm3.weight")]
    assert len(scales) == 2
    assert not any(value.any() for value in scales)


def test_without_a_depth_only_the_stem_stays() -> None:
    model = models.build("r/2+vit-32x1/8-gap", image_size=32, classes=10)
    stem = model.get_submodule("patch_embed.backbone")
    assert [name for name, _ in stem.named_children()] == ["conv", "norm"]
    assert model.get_parameter("patch_embed.proj.weight").shape == (32, 64, 4, 4)


def test_options_are_those_of_the_vit() -> None:
    plain = models.parameters(models.build("r8x0.25+vit-64x2/2", image_size=8, classes=10))
    model = models.build("r8x0.25+vit-64x2/2-gap-posrel-tanh-drop0.1", image_size=8, classes=10)
    assert models.parameters(model) - plain == -64 - 17 * 64 + 2 * 31 * 64 + 64 * 65
    assert model(torch.randn(2, 3, 8, 8)).shape == (2, 10)
    rates = {item.p for item in model.modules() if isinstance(item, torch.nn.Dropout)}
    assert rates == {0.0, 0.1}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("r8x0.25+vit-64x3/4", r"reaches \[1, 2\], not 4"),
        ("r9+vit-64x3/2", "depth 9 is unknown"),
        ("r8+vit-q/2", 'size "q" is unknown'),
        ("r8+vit-64x3/2-gpa", 'option "-gpa" is unknown'),
        ("r/4+vit-64x3/6", "stem of stride 4 has no patches 6 pixels apart: expected a multiple of 4"),
        ("r/2+vit-64x3/0", "no patches 0 pixels apart"),
    ],
)
def test_names_that_cannot_be_built(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        models.build(name, image_size=8, classes=10)


def test_image_that_does_not_divide() -> None:
    with pytest.raises(UserError, match="9-pixel images do not divide by the stride 2"):
        models.build("r8x0.25+vit-64x3/2", image_size=9, classes=10)
