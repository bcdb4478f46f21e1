"""Checks the slides' rules for convolutions and the head of VGG-16 by counts of real modules."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from torch import Tensor, nn

from vision_repro.accounting.architectures import counted
from vision_repro.accounting.check import EXACT, ROUNDING, Check, Table
from vision_repro.accounting.layers import Account, Layer
from vision_repro.accounting.profiler import account
from vision_repro.papers.tables import paper_table

CHANNELS, SIDE = 24, 10
"""C and H = W for which the rules are counted; the result does not depend on them."""


class _WithChannels(nn.Module):
    """Gives layers `layers` a map of `channels` channels without values, in the size of its images `[B, 3, H, W]`."""

    def __init__(self, channels: int, *layers: nn.Module) -> None:
        super().__init__()
        self.channels = channels
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = self.layers(images.new_empty(images.shape[0], self.channels, *images.shape[2:]))
        return maps


def convolutions(kernel: int, count: int, channels: int, side: int) -> Account:
    """Returns the account of `count` convolutions that keep the number `channels` and the size of the maps; no bias."""
    layers = [nn.Conv2d(channels, channels, kernel, padding=kernel // 2, bias=False) for _ in range(count)]
    return account(_WithChannels(channels, *layers), side)


def _rule(row: dict[str, str]) -> Check:
    """Returns the check of a rule such as `25C^2HW`: our number is the count over C^2 (and HW)."""
    item, quantity, printed = row["item"], row["quantity"], row["slide_value"]
    kernel = int(re.search(r"(\d)x\d conv", item)[1])  # type: ignore[index]
    count = {"one": 1, "two": 2, "three": 3}.get(item.split()[0], 1)
    widen, enlarge = (2 if item.startswith("after") else 1), (2 if item.startswith("before") else 1)
    network = convolutions(kernel, count, widen * CHANNELS, enlarge * SIDE)
    area, square = SIDE**2, CHANNELS**2
    ours, unit = {
        "parameters": (network.parameters / square, "C^2"),
        "MACs": (network.macs() / (square * area), "HWC^2"),
        "memory": (network.memory / 4 / (CHANNELS * area), "HWC"),
    }[quantity]
    factor = re.match(r"\d+", printed)
    assert factor is not None
    return Check(item, quantity, unit, ours, factor[0], EXACT, row["source"], note=row["error_note"])


def _head(row: dict[str, str], layers: Sequence[Layer]) -> Check | None:
    """Returns the check of a number of VGG-16's head against the slide, or else against the independent count."""
    names = {"flatten": "neck.flatten", "fc6": "neck.fc6", "fc7": "neck.fc7", "fc8": "head"}
    chosen = [layer for layer in layers if layer.name in [names.get(word) for word in row["item"].split("+")]]
    biases = sum(layer.output[1] for layer in chosen if layer.kind == "linear")
    ours = {
        "elements": float(sum(layer.output[1] for layer in chosen)),
        "memory": sum(layer.memory for layer in chosen) / 1024,
        "parameters without bias": float(sum(layer.parameters for layer in chosen) - biases),
        "parameters with bias": float(sum(layer.parameters for layer in chosen)),
        "MACs": float(sum(layer.macs for layer in chosen)),
    }[row["quantity"]]
    printed = row["slide_value"] or row["computed_value"]
    factor, unit = {"k": (1e3, "k"), "M": (1e6, "M")}.get(printed[-1], (1.0, "KB" if row["unit"] == "KB" else ""))
    band = ROUNDING if row["slide_value"] else EXACT
    return Check(
        row["item"], row["quantity"], unit, ours / factor, printed.rstrip("kM"), band, row["source"], row["error_note"]
    )


def _network(row: dict[str, str], network: Account) -> Check:
    body = sum(layer.parameters for layer in network.layers if layer.kind == "conv")
    ours = {"VGG-16 convolutions": body}.get(row["item"], network.parameters)
    value = network.macs() if row["quantity"].startswith("MACs") else ours
    return Check(row["item"], row["quantity"], "", value, row["computed_value"], EXACT, row["source"])


def _statement(row: dict[str, str], network: Account) -> Check:
    """Returns the check of a statement of the slides on the VGG-16 built here."""
    convs = [layer for layer in network.layers if layer.kind == "conv"]
    pools = [layer for layer in network.layers if layer.kind == "pool"]
    widths = list(dict.fromkeys(layer.output[1] for layer in convs))
    growth = max(after // before for before, after in itertools.pairwise(widths))
    found = {
        "padding": (max(layer.padding[0][0] for layer in convs), row["slide_value"], "px"),
        "stride": (max(layer.stride[0] for layer in convs), row["slide_value"], "px"),
        "window": (max(layer.kernel[0] for layer in pools), row["slide_value"][0], "px"),
        "growth": (growth, "3", ""),  # "doubles or triples"
    }[row["quantity"]]
    ours, printed, unit = found
    error = row["error_note"]
    wrong = error if error.startswith("slide error") else ""
    return Check(
        row["item"],
        f"largest {row['quantity']}",
        unit,
        ours,
        printed,
        EXACT,
        row["source"],
        note="" if wrong else error,
        explanation=wrong,
    )


def _why_convolutions() -> list[Check]:
    """Returns the checks of the slide that compares a convolution with a dense layer: 32x32x3 to 28x28x6."""
    source = "lecture slides, why convolutions"
    conv = account(nn.Conv2d(3, 6, 5), 32)
    assert conv.layers[0].output == (1, 6, 28, 28)
    dense = account(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 6 * 28 * 28)), 32)
    shape, exact = "32x32x3 to 28x28x6", f"{dense.parameters:,}"
    return [
        Check(f"{shape}, six 5x5 filters", "parameters", "", conv.parameters, "456", EXACT, source),
        Check(f"{shape}, a dense layer", "parameters", "M", dense.parameters / 1e6, "14", ROUNDING, source, exact),
    ]


def _bottleneck() -> Check:
    """Returns the check of the slides' statement on GoogLeNet that 1x1 bottlenecks cut the cost to a tenth."""
    large = nn.Conv2d(192, 32, 5, padding=2)
    reduced = nn.Sequential(nn.Conv2d(192, 16, 1), nn.Conv2d(16, 32, 5, padding=2))
    whole, less = (account(_WithChannels(192, layers), 28).macs() for layers in (large, reduced))
    note = f"{less:,} instead of {whole:,}; the slide shows its shapes in a picture only; these are the usual example"
    subject = "5x5 convolution of 28x28x192 to 32 maps, 16 maps of 1x1 before it"
    return Check(subject, "share of the MACs", "", less / whole, "0.1", ROUNDING, "lecture slides, GoogLeNet", note)


def vgg() -> Table:
    """Returns the checks of VGG-16's head, of the rules for stacks of convolutions, and of statements on VGG."""
    network = counted("vgg16", 224)
    checks = [*_why_convolutions(), _bottleneck()]
    for row in paper_table("vgg_slide"):
        if row["kind"] == "rule":
            checks.append(_rule(row))
        elif row["kind"] == "head":
            found = _head(row, network.layers)
            checks += [found] if found else []
        else:
            checks.append(_network(row, network) if row["kind"] == "network" else _statement(row, network))
    text = (
        f"Rules are counted on modules with C = {CHANNELS} and H = W = {SIDE}, and divided by their powers of C and "
        "HW; memory in rules is in elements. The head and the statements are of `vgg16` at 224 pixels."
    )
    return Table("vgg", "Why convolutions, and VGG's rules", text, tuple(checks))
