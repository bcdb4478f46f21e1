"""Accounts of models: closed forms, torch's own counter, and what ends up in which layer."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vision_repro import models
from vision_repro.accounting import profiler as book_module
from vision_repro.accounting.architectures import counted
from vision_repro.accounting.counter import Counter, meta_copy, meta_images
from vision_repro.accounting.layers import Account, Layer
from vision_repro.accounting.operations import Operation
from vision_repro.accounting.profiler import account


def on_meta(name: str, image_size: int) -> nn.Module:
    with torch.device("meta"):
        return models.build(name, image_size=image_size, classes=10)


def kinds(found: Account) -> list[str]:
    return [layer.kind for layer in found.layers]


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_convolution(groups: int) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=groups))
    layer = account(model, 8, 3).layers[1]
    assert layer == Layer(
        "1",
        "conv",
        (3, 4, 8, 8),
        (3, 8, 4, 4),
        parameters=8 * (4 // groups) * 9 + 8,
        memory=4 * 3 * 8 * 4 * 4,
        macs=3 * 16 * 8 * (4 // groups) * 9,
        inside_macs=3 * 11 * 11 * 8 * (4 // groups),
        kernel=(3, 3),
        stride=(2, 2),
        padding=((1, 1), (1, 1)),
        groups=groups,
    )


def test_transposed_convolution() -> None:
    model = nn.ConvTranspose2d(3, 5, 2, stride=2)
    found = account(model, 4)
    assert found.macs() == found.macs("inside") == 3 * 5 * 4 * 16
    assert found.layers[0].output == (1, 5, 8, 8)


def test_linear_layer_after_flattening() -> None:
    found = account(nn.Sequential(nn.Flatten(), nn.Linear(48, 7)), 4, 2)
    flat, linear = found.layers
    assert (flat.kind, flat.output, flat.macs) == ("flatten", (2, 48), 0)
    assert (linear.kind, linear.parameters, linear.macs, linear.memory) == ("linear", 343, 2 * 48 * 7, 4 * 2 * 7)


@pytest.mark.parametrize(
    ("pool", "window", "side"),
    [
        (nn.MaxPool2d(3, 2), 9, 3),
        (nn.MaxPool2d(2, ceil_mode=True), 4, 4),
        (nn.AvgPool2d(3, 1, 1), 9, 8),
        (nn.AdaptiveAvgPool2d(1), 64, 1),
        (nn.AdaptiveMaxPool2d(2), 16, 2),
    ],
)
def test_pooling_is_apart_from_multiply_adds(pool: nn.Module, window: int, side: int) -> None:
    found = account(pool, 8, 2)
    assert (found.macs(), found.pool_ops, kinds(found)) == (0, 2 * 3 * side * side * window, ["pool"])


class Means(nn.Module):
    """Means over maps, tokens and channels: the first three pool, the others belong to norms."""

    def __init__(self, axes: tuple[int, ...], tokens: bool = False) -> None:
        super().__init__()
        self.axes, self.tokens = axes, tokens

    def forward(self, images: Tensor) -> Tensor:
        return (images.flatten(2) if self.tokens else images).mean(self.axes)


def test_means_over_maps_and_tokens_pool() -> None:
    found = [account(Means(*args), 8) for args in (((2, 3),), ((-1, -2),), ((1, 2),), ((1,), True))]
    assert [item.pool_ops for item in found] == [3 * 64] * 4
    assert kinds(account(Means((1,)), 8)) == kinds(account(Means((2,), True), 8)) == []


class Attend(nn.Module):
    """Tokens of an image attend to each other in one head, with or without a fused kernel."""

    def __init__(self, explicit: bool) -> None:
        super().__init__()
        self.explicit, self.num_heads = explicit, 1
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, images: Tensor) -> Tensor:
        tokens = (images.flatten(2).transpose(1, 2) * self.scale)[:, None]
        if self.explicit:
            return (tokens @ tokens.transpose(-2, -1)).softmax(-1) @ tokens
        return F.scaled_dot_product_attention(tokens, tokens, tokens)


@pytest.mark.parametrize("explicit", [True, False])
def test_both_products_of_attention_are_one_layer(explicit: bool) -> None:
    found = account(Attend(explicit), 4, 2)
    assert kinds(found) == ["attention"]
    assert found.macs() == 2 * (2 * 16 * 16 * 3)
    assert (found.parameters, found.layers[0].heads) == (3, 1)


@pytest.mark.parametrize("name", ["vit-64x2/4", "swin-32x2.2/2", "r8x0.25/2+vit-64x2/4"])
def test_a_fused_kernel_changes_no_count(name: str) -> None:
    accounts = []
    for explicit in (True, False):
        model = on_meta(name, 32)
        models.use_explicit_attention(model, explicit)
        accounts.append(account(model, 32))
    assert accounts[0] == accounts[1]
    assert any(layer.kind == "attention" and layer.heads > 1 for layer in accounts[0].layers)


def test_the_kernels_that_a_cpu_runs_count_the_same() -> None:
    """Should explicit attention ever be out of reach: the fused kernel of this CPU has both products too."""
    found: list[int] = []
    tokens = torch.zeros(2, 3, 5, 8)
    with torch.no_grad(), Counter(lambda operation: found.append(operation.macs)):
        F.scaled_dot_product_attention(tokens, tokens, tokens)
    assert sum(found) == 2 * (2 * 3 * 5 * 5 * 8)


def test_standardised_weights_are_no_layers_of_their_own() -> None:
    found = account(on_meta("bit-r11x0.25", 8), 8)
    convs = [layer for layer in found.layers if layer.name.endswith("conv2")]
    assert [layer.kind for layer in convs] == ["conv"] * 3
    assert len({layer.name for layer in found.layers}) == len(found.layers)


def test_parameters_outside_of_layers_have_a_line() -> None:
    found = account(on_meta("vit-64x2/4", 32), 32)
    assert found.layers[-1].name == "cls_token+pos_embed"
    assert found.layers[-1].parameters == 64 + 65 * 64


def test_auxiliary_classifiers_have_a_line_and_do_not_run() -> None:
    with_them, without = (account(on_meta(name, 32), 32) for name in ("googlenetx0.125", "googlenetx0.125-noaux"))
    assert with_them.layers[-1].name == "auxiliary (training only)"
    assert with_them.macs() == without.macs()
    assert with_them.parameters == without.parameters + with_them.layers[-1].parameters


def test_a_module_that_runs_twice_counts_twice_and_has_its_parameters_once() -> None:
    layer = nn.Conv2d(3, 3, 1)
    found = account(nn.Sequential(layer, nn.ReLU(), layer), 4)
    assert [item.parameters for item in found.layers] == [12, 0]
    assert found.macs() == 2 * 16 * 9


SAMPLE = [
    ("alexnetx0.125-grouped", 64), ("bit-r11x0.25/2", 32), ("efficientnet-b0x0.25", 32), ("googlenetx0.125-bn", 32),
    ("lenet5", 32), ("ninx0.25", 32), ("r8x0.25+vit-64x2/2", 8), ("resnet11x0.5-bottleneck-allproj", 32),
    ("swin-32x2.2/1", 8), ("vgg11x0.125-bn", 32), ("vit-32x2/2-posrel", 8), ("vit-64x2/4", 32),
]  # fmt: skip


@pytest.mark.parametrize(("name", "image_size"), SAMPLE)
def test_all_taps_equal_torchs_counter(name: str, image_size: int) -> None:
    model = on_meta(name, image_size)
    found = account(model, image_size, 2)
    models.use_explicit_attention(model, True)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(torch.empty(2, 3, image_size, image_size, device="meta"))
    assert 2 * found.macs() == counter.get_total_flops()
    assert found.parameters == models.parameters(model)
    assert found.macs("inside") <= found.macs()


def test_all_is_proportional_to_the_batch() -> None:
    one, many = (account(on_meta("vit-64x2/4", 32), 32, batch) for batch in (1, 5))
    assert (5 * one.macs(), 5 * one.memory, one.parameters) == (many.macs(), many.memory, many.parameters)


def test_the_model_is_left_as_it_is() -> None:
    model = models.build("vit-32x2/2", image_size=8, classes=10).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    account(model, 8)
    assert model.training
    assert not any(item._forward_hooks or item._forward_pre_hooks for item in model.modules())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.fixture
def dispatched(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The operations that go through the counter."""
    seen: list[object] = []

    class Watched(Counter):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            seen.append(func)
            return super().__torch_dispatch__(func, types, args, kwargs)

    monkeypatch.setattr(book_module, "Counter", Watched)
    return seen


def test_vit_h14_takes_few_operations(dispatched: list[object]) -> None:
    """What the time goes into: 32 blocks of some forty operations, and 7 layers a block."""
    found = counted.__wrapped__("vit-h/14", 224)
    assert len(dispatched) < 32 * 60
    assert len(found.layers) == 32 * 7 + 4
    assert found.macs() == 16 * 16 * 3 * 14**2 * 1280 + 32 * (257 * 12 * 1280**2 + 2 * 257**2 * 1280) + 1280 * 1000
    assert found.parameters == 632_045_800


@pytest.mark.parametrize("name", ["vit-64x2/4", "resnet8", "bit-r11x0.25/2", "efficientnet-b0x0.25"])
def test_taking_norms_for_granted_changes_nothing(name: str) -> None:
    model, found = meta_copy(on_meta(name, 32)).eval(), []
    for quick in (True, False):
        seen: list[Operation] = []
        with torch.no_grad(), Counter(seen.append, quick=quick):
            model(meta_images(2, 32))
        found.append([item for item in seen if item.macs or item.pool_ops or item.kind == "norm"])
    assert found[0] == found[1]
