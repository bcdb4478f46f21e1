"""Families of models: one definition, for our names, the papers' and timm's."""

import csv
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import timm

from vision_repro import catalogue, models
from vision_repro.models.families import family
from vision_repro.papers.tables import paper_table

ROOT = Path(__file__).parents[2]
OWN = {
    "vit",
    "bit",
    "hybrid",
    "resnet",
    "plain",
    "swin",
    "vgg",
    "googlenet",
    "alexnet",
    "lenet",
    "nin",
    "efficientnet",
    "kernel_net",
}


@pytest.mark.parametrize("module", catalogue.architectures(), ids=lambda module: module.__name__.rpartition(".")[2])
def test_every_name_of_an_architecture_has_a_family_that_its_file_states(module: ModuleType) -> None:
    small, published = ([item[0] for item in getattr(module, kind)] for kind in ("SMALL", "PUBLISHED"))
    names = {*module.EXAMPLES, *small, *published}
    stated = set(module.FAMILIES)
    found = {family(name) for name in names}
    assert found == stated or (not stated and all(name.startswith("timm:") for name in names))


def test_the_families_of_all_our_architectures() -> None:
    assert {family(name) for name in models.names() if not name.startswith("timm:")} == OWN
    stated = [name for module in catalogue.architectures() for name in module.FAMILIES]
    assert sorted(stated) == sorted(OWN)  # each stated once


@pytest.mark.parametrize(
    ("expected", "names"),
    [
        ("vit", ("vit-64x4/2-gap", "ViT-H/14", "ViT-b/32", "ViT-Lite-7/4", "ViT-mu", "vit-32x2/2-pos2d-shared")),
        ("bit", ("bit-r11x0.15", "bit-r14x0.3125/2", "ResNet50x1", "ResNet200x3", "R101x1", "BiT-L ResNet152x4")),
        (
            "hybrid",
            (
                "r8x0.25/2+vit-64x3/4",
                "rx0.25+vit-32x2/2",
                "r/4+vit-32x2/8-drop0.1",
                "R50x1+ViT-B/32",
                "R50+ViT-L/16",
                "R+ViT-Ti/16",
            ),
        ),
        (
            "resnet",
            (
                "resnet20",
                "resnet8",
                "resnet50-v1",
                "resnet18x0.25-allproj",
                "resnet50x1",
                "ResNet-101",
                "ResNet-20 (CIFAR design)",
                "PreAct ResNet-18",
            ),
        ),
        ("plain", ("plain20", "plain56x0.25")),
        ("swin", ("swin-t", "swin-32x2.2/1-w4-noshift", "Swin-L")),
        ("vgg", ("vgg11x0.125-bn-fc0", "VGG16", "VGG-11 BN")),
        ("googlenet", ("googlenetx0.0625-bn-noaux", "googlenet", "GoogLeNet")),
        ("alexnet", ("alexnetx0.125", "alexnet-64x0.375", "AlexNet")),
        ("lenet", ("lenet5", "lenet5-1998")),
        ("nin", ("nin", "ninx0.25-bottleneck4")),
        ("efficientnet", ("efficientnet-b0x0.25-drop", "Noisy Student EfficientNet-L2")),
        ("kernel_net", ("kernels-5", "kernels-3.3.3-linear-s2-c16.32")),
    ],
)
def test_families_by_name(expected: str, names: tuple[str, ...]) -> None:
    assert {name: family(name) for name in names} == dict.fromkeys(names, expected)


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("timm:vit_base_patch16_224.augreg_in21k", "vit"),
        ("timm:test_vit", "vit"),
        ("timm:vit_relpos_base_patch16_224.sw_in1k", "vit"),
        ("timm:vit_base_r50_s16_224.orig_in21k", "hybrid"),
        ("timm:vit_tiny_r_s16_p8_224.augreg_in21k", "hybrid"),
        ("timm:vit_base_resnet50d_224", "hybrid"),
        ("timm:resnetv2_50x1_bit.goog_in21k", "bit"),
        ("timm:resnetv2_50.a1h_in1k", "resnet"),
        ("timm:resnet18", "resnet"),
        ("timm:wide_resnet50_2", "resnet"),
        ("timm:test_resnet", "resnet"),
        ("timm:resnext50_32x4d", "resnext"),
        ("timm:res2net50_26w_4s", "res2net"),
        ("timm:swin_tiny_patch4_window7_224", "swin"),
        ("timm:swinv2_tiny_window8_256", "swin"),
        ("timm:tf_efficientnet_b0.ns_jft_in1k", "efficientnet"),
        ("timm:efficientnetv2_rw_s", "efficientnet"),
        ("timm:vgg16_bn", "vgg"),
    ],
)
def test_families_of_timm(tag: str, expected: str) -> None:
    assert timm.is_model(tag.removeprefix("timm:").partition(".")[0])
    assert family(tag) == family(tag.removeprefix("timm:")) == expected


def test_every_model_of_timm_has_a_family_and_its_weights_do_not_change_it() -> None:
    for name in timm.list_models(include_tags=True):
        found = family(f"timm:{name}")
        assert found.isidentifier(), name
        assert found == family(f"timm:{name.partition('.')[0]}")
        if found not in ("hybrid", "bit"):
            assert found in name


def test_the_papers_say_the_same() -> None:
    """Its ResNets are those of BiT (ViT, section 4.1)."""
    rows = paper_table("vit_table6")
    printed = {row["model"]: {"resnet": "bit"}.get(row["family"], row["family"]) for row in rows}
    assert {row["model"]: family(row["model"]) for row in rows} == printed
    assert set(printed.values()) == {"vit", "bit", "hybrid"}


def test_every_model_of_the_committed_results_has_one_of_our_families() -> None:
    found: set[str] = set()
    for file in (ROOT / "results").glob("*/*/table.csv"):
        with file.open(newline="") as stream:
            found |= {row["model"] for row in csv.DictReader(stream) if row.get("model")}
    assert len(found) > 50
    assert {family(name) for name in found} <= OWN


def test_a_name_without_letters_is_its_own_family() -> None:
    assert [family(name) for name in ("", "7", "+")] == ["", "7", "+"]


def test_families_are_told_without_torch() -> None:
    code = (
        "import sys\n"
        "from vision_repro.models.families import family\n"
        "assert family('timm:vit_base_patch16_224') == 'vit'\n"
        "sys.exit('torch' in sys.modules or 'timm' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
