import io
from typing import Any

import pytest
import torch
from lightning import Trainer
from torch import nn

from vision_repro import catalogue, models
from vision_repro.config import UserError
from vision_repro.data.config import DataConfig
from vision_repro.data.resident import ResidentData
from vision_repro.files.splits import Split, Splits
from vision_repro.models.layers.outputs import WithAuxiliary
from vision_repro.models.published import Published
from vision_repro.presets.pairs import HYBRIDS, PAIRS
from vision_repro.tasks.classifier import Classifier

PAIRED = [(name, size) for size in (8, 32) for name in (*sum(PAIRS[size], ()), HYBRIDS[size])]
SMALL = [*models.small(), *PAIRED]
every_small = pytest.mark.parametrize(("name", "image_size"), SMALL)


def on_meta(name: str, image_size: int, classes: int = 10) -> nn.Module:
    with torch.device("meta"):
        return models.build(name, image_size=image_size, classes=classes)


def off_zero(name: str, image_size: int) -> nn.Module:
    """A model away from the zeros that some layers start at, so that every layer matters."""
    torch.manual_seed(0)
    model = models.build(name, image_size=image_size, classes=10)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.02 * torch.randn_like(value))
    return model


def all_logits(output: Any) -> list[torch.Tensor]:
    return [output.logits, *output.auxiliary] if isinstance(output, WithAuxiliary) else [output]


def test_every_architecture_has_small_and_published_sizes() -> None:
    for module in catalogue.architectures():
        assert module.SMALL, module.__name__
        assert all(module.PATTERN.fullmatch(name) for name, _ in module.SMALL), module.__name__
        assert all(module.PATTERN.fullmatch(item.name) for item in module.PUBLISHED), module.__name__
        assert all(module.PATTERN.fullmatch(name) for name in module.EXAMPLES), module.__name__


def test_every_example_is_built_and_takes_images() -> None:
    sizes = {item.name: item.image_size for item in models.published()} | dict(SMALL)
    for name in models.names():
        image_size = sizes.get(name, 32 if name.endswith(("/2", "/4")) else 224)
        model = on_meta(name, image_size).eval()
        assert model(torch.empty(2, 3, image_size, image_size, device="meta")).shape == (2, 10)


def test_no_name_belongs_to_two_architectures() -> None:
    names = {*models.names(), *(name for name, _ in SMALL), *(item.name for item in models.published())}
    for name in names:
        assert sum(bool(module.PATTERN.fullmatch(name)) for module in catalogue.architectures()) == 1, name


@pytest.mark.parametrize("item", models.published(), ids=lambda item: f"{item.name}@{item.image_size}")
def test_published_sizes_have_exactly_their_parameters(item: Published) -> None:
    model = on_meta(item.name, item.image_size, classes=1000)
    assert models.parameters(model) == item.parameters, item.source
    assert item.source


def test_pairs_match_in_parameters() -> None:
    for image_size, pairs in PAIRS.items():
        for vit, bit in pairs:
            left, right = (models.parameters(on_meta(name, image_size)) for name in (vit, bit))
            assert abs(left - right) <= 0.1 * left, f"{vit} {left}, {bit} {right}"


def test_hybrids_match_a_vit_of_their_image_size() -> None:
    for image_size, index in ((8, 1), (32, 0), (224, 1)):
        vit, hybrid = PAIRS[image_size][index][0], HYBRIDS[image_size]
        left, right = (models.parameters(on_meta(name, image_size)) for name in (vit, hybrid))
        assert abs(left - right) <= 0.15 * left, f"{vit} {left}, {hybrid} {right}"


@every_small
def test_logits_are_the_final_layer_of_the_features(name: str, image_size: int) -> None:
    model = off_zero(name, image_size).eval()
    seen: list[torch.Tensor] = []
    classifier: Any = model
    layer: nn.Module = classifier.get_classifier()
    layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].flatten(1)))
    images = torch.randn(2, 3, image_size, image_size)
    assert model(images).shape == (2, 10)
    found = models.features(model, images)
    assert found.ndim == 2
    assert torch.equal(found, seen[0])


@every_small
def test_gradient_reaches_every_parameter(name: str, image_size: int) -> None:
    """So that plain DDP, which waits for every parameter's gradient, works."""
    model = off_zero(name, image_size).train()
    output = model(torch.randn(8, 3, image_size, image_size))
    sum(nn.functional.cross_entropy(logits, torch.arange(8)) for logits in all_logits(output)).backward()
    for key, value in model.named_parameters():
        assert value.grad is not None, key
        assert value.grad.isfinite().all(), key
        assert value.grad.any(), key


@every_small
def test_an_image_is_judged_alone_and_the_same_each_time(name: str, image_size: int) -> None:
    model = off_zero(name, image_size)
    images = torch.randn(4, 3, image_size, image_size)
    model.train()(images)  # moves the running statistics of a batch norm off their start
    model.eval()
    with torch.inference_mode():
        together, alone = model(images), torch.cat([model(image[None]) for image in images])
        assert torch.equal(together, model(images))
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


@every_small
def test_training_differs_from_evaluation_where_the_model_says_so(name: str, image_size: int) -> None:
    model = off_zero(name, image_size)
    images = torch.randn(4, 3, image_size, image_size)
    random_or_normed = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
    differs = any(
        (isinstance(part, random_or_normed) and getattr(part, "p", 1) > 0) or getattr(part, "drop_prob", None)
        for part in model.modules()
    )
    with torch.no_grad():
        train, test = all_logits(model.train()(images))[0], all_logits(model.eval()(images))[0]
    assert torch.equal(train, test) != differs


@every_small
def test_state_dict_round_trip(name: str, image_size: int) -> None:
    model = off_zero(name, image_size).eval()
    torch.manual_seed(1)
    other = models.build(name, image_size=image_size, classes=10).eval()
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    images = torch.randn(2, 3, image_size, image_size)
    with torch.inference_mode():
        assert torch.equal(model(images), other(images))


@every_small
def test_half_precision_and_memory_format_keep_the_logits(name: str, image_size: int) -> None:
    model = off_zero(name, image_size).eval()
    images = torch.randn(2, 3, image_size, image_size)
    with torch.inference_mode():
        exact = model(images)
        with torch.autocast("cpu", torch.bfloat16):
            half = model(images)
        last = model.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, exact, rtol=1e-3, atol=1e-3 * float(exact.std()) + 1e-5)
    assert float((half.float() - exact).abs().max()) < 0.25 * float(exact.std()) + 0.02


def smallest(module: Any) -> tuple[str, int]:
    chosen: tuple[str, int] = min(module.SMALL, key=lambda item: (item[1], models.parameters(on_meta(*item))))
    return chosen


ONE_EACH = [smallest(module) for module in catalogue.architectures()]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "image_size"), ONE_EACH)
def test_compiles_whole_and_equal(name: str, image_size: int) -> None:
    """One graph without breaks; the code generator of torch is not what is tested here."""
    model = off_zero(name, image_size).eval()
    images = torch.randn(2, 3, image_size, image_size)
    with torch.inference_mode():
        exact = model(images)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(images).detach(), exact, rtol=1e-4, atol=1e-4)


def pictures(image_size: int) -> ResidentData:
    """Four random pictures, for two steps of training."""
    images = torch.randint(0, 256, (4, 3, image_size, image_size), dtype=torch.uint8)
    split = Split(images, torch.arange(4))
    names = tuple("abcdefghij")
    splits = Splits("pictures", 10, names, image_size, split, split, split, checksum="")
    return ResidentData(DataConfig("pictures", image_size, train_size=4, global_batch=4, steps=2), splits)


@every_small
def test_trains_two_steps_through_the_classifier(name: str, image_size: int) -> None:
    torch.manual_seed(0)
    model = models.build(name, image_size=image_size, classes=10)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    task = Classifier(model, lr=1e-3, weight_decay=0.1, steps=2, warmup=0.0)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(task, datamodule=pictures(image_size))
    assert trainer.global_step == 2
    assert task.take_train_loss().isfinite()
    after = model.state_dict()
    assert any(not torch.equal(before[key], after[key]) for key in before if "head" not in key)


@pytest.mark.parametrize("name", ["vit-32x1/2", "bit-r8x0.125", "r8x0.125+vit-32x1/2"])
def test_the_seed_fixes_the_weights(name: str) -> None:
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(torch.cat([item.flatten() for item in models.build(name, image_size=8, classes=3).parameters()]))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_explicit_attention_leaves_a_cnn_alone() -> None:
    model = models.build("bit-r8x0.125", image_size=8, classes=10)
    models.use_explicit_attention(model, True)
    assert not any(hasattr(item, "fused_attn") for item in model.modules())


@pytest.mark.parametrize("name", ["vitt-64x4/2", "vit-64x4", "bit-50", "", "vit-64x4/2 "])
def test_unknown_names(name: str) -> None:
    with pytest.raises(UserError, match=r"is unknown: expected a name such as alexnet, bit-r"):
        models.build(name, image_size=8, classes=10)


def test_a_misspelt_name_gets_the_nearest_one() -> None:
    with pytest.raises(UserError, match='Did you mean "vit-64x4/2"'):
        models.build("vitt-64x4/2", image_size=8, classes=10)


@pytest.mark.parametrize(("image_size", "classes"), [(0, 10), (8, 0)])
def test_nothing_to_build(image_size: int, classes: int) -> None:
    with pytest.raises(UserError, match="at least 1 class and 1 pixel"):
        models.build("vit-32x1/2", image_size=image_size, classes=classes)
