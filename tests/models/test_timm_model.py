import pytest
import timm
import torch

from vision_repro import models
from vision_repro.config import UserError
from vision_repro.models import timm_model


@pytest.mark.parametrize(
    ("name", "parameters"),
    # torchvision's documentation of resnet18 and vgg11; ViT, Table 1, counted; all with 1000 classes
    [("resnet18", 11_689_512), ("vgg11", 132_863_336), ("vit_base_patch16_224", 86_567_656)],
)
def test_parameters_are_the_published(name: str, parameters: int) -> None:
    with torch.device("meta"):
        assert models.parameters(models.build(f"timm:{name}", image_size=224, classes=1000)) == parameters


def test_is_timms_model_with_the_seeds_weights() -> None:
    torch.manual_seed(0)
    ours = models.build("timm:test_resnet.r160_in1k", image_size=64, classes=7)
    torch.manual_seed(0)
    theirs = timm.create_model("test_resnet", num_classes=7)
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in ours.state_dict().items())


@pytest.mark.parametrize(
    ("name", "image_size"), [("timm:test_vit", 32), ("timm:swin_tiny_patch4_window7_224", 64), ("timm:resnet18", 40)]
)
def test_takes_images_of_the_size_asked_for(name: str, image_size: int) -> None:
    with torch.device("meta"):
        model = models.build(name, image_size=image_size, classes=7).eval()
        images = torch.empty(2, 3, image_size, image_size)
        assert model(images).shape == (2, 7)
        features = models.features(model, images)
    assert features.shape == (2, model.get_classifier().in_features)


def test_a_tag_says_what_pixels_are_expected() -> None:
    with torch.device("meta"):
        augreg = models.build("timm:vit_tiny_patch16_224.augreg_in21k", image_size=224, classes=2)
        deit = models.build("timm:deit_tiny_patch16_224.fb_in1k", image_size=224, classes=2)
    assert augreg.pretrained_cfg["mean"] == (0.5, 0.5, 0.5)
    assert deit.pretrained_cfg["std"] == (0.229, 0.224, 0.225)


def test_trying_it_out_draws_nothing() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    timm_model._try("test_vit", 32, 3)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("name", "image_size", "message"),
    [
        ("timm:resnet81", 224, 'has no model "resnet81"..*Did you mean "resnet'),
        ("timm:hf-hub:a/b", 224, 'has no model "hf-hub:a/b"'),
        ("timm:resnet18.a4_in1k", 224, 'no weights "a4_in1k": expected a1_in1k, .*Did you mean "a.?_in1k"'),
        (
            "timm:vit_tiny_patch16_224_in21k",
            224,
            'renamed or removed "vit_tiny_patch16_224_in21k": expected "timm:vit_',
        ),
        (
            "timm:deit_tiny_distilled_patch16_224",
            224,
            "is no classifier of 224-pixel images: it has not one classifier",
        ),
        ("timm:test_vit", 40, "is no classifier of 40-pixel images"),
        ("timm:vgg11", 8, "is no classifier of 8-pixel images"),
    ],
)
def test_names_that_cannot_be_built(name: str, image_size: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        models.build(name, image_size=image_size, classes=10)
