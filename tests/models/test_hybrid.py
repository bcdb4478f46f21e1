import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from vision_repro import models
from vision_repro.config import UserError
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
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_tokens_are_the_published(name: str) -> None:
    with torch.device("meta"):
        model = models.build(name, image_size=224, classes=1000)
    assert isinstance(model, VisionTransformer)
    body = models.parameters(model) - models.parameters(model.head)
    assert (body, model.pos_embed.shape[1]) == PUBLISHED[name]


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


@pytest.mark.parametrize(("name", "image_size"), [("r8x0.25+vit-64x3/2", 8), ("r8x0.25/2+vit-64x3/4", 32)])
def test_every_pixel_of_the_map_is_a_token(name: str, image_size: int) -> None:
    model = models.build(name, image_size=image_size, classes=10)
    assert isinstance(model, VisionTransformer)
    stride = int(name.rsplit("/", 1)[1])
    tokens = model.patch_embed(torch.randn(2, 3, image_size, image_size))
    assert tokens.shape == (2, (image_size // stride) ** 2, 64)


def test_last_norm_of_each_block_starts_at_zero() -> None:
    model = models.build("r8x0.25+vit-64x1/2", image_size=8, classes=10)
    scales = [value for name, value in model.named_parameters() if name.endswith("norm3.weight")]
    assert len(scales) == 2
    assert not any(value.any() for value in scales)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("r8x0.25+vit-64x3/4", r"reaches \[1, 2\], not 4"),
        ("r9+vit-64x3/2", "depth 9 is unknown"),
        ("r8+vit-q/2", 'size "q" is unknown'),
    ],
)
def test_names_that_cannot_be_built(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        models.build(name, image_size=8, classes=10)


def test_image_that_does_not_divide() -> None:
    with pytest.raises(UserError, match="9-pixel images do not divide by the stride 2"):
        models.build("r8x0.25+vit-64x3/2", image_size=9, classes=10)
