"""Compares the tables of the lecture slides on CNNs with counts of the networks built here.

Units of the slides: 1 KB is 1024 bytes, and an element has 4 bytes. A parameter row counts the bias or leaves it out;
its note says which. "FLOP" counts a multiply-add as 1, and pooling as 1 for each element of a window.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vision_repro.accounting.architectures import counted
from vision_repro.accounting.check import EXACT, ROUNDING, Check, Table
from vision_repro.accounting.layers import Account, Layer
from vision_repro.papers.tables import paper_table

UNITS = (
    "A multiply-add counts as one operation, as on the slides, and so does each element of a pooling window; 1 KB is "
    "1024 bytes, and an element has 4 bytes. Parameters include biases."
)
_INDEPENDENT = "independent count; not on the slide"


def slide_layers(network: Account) -> list[Layer]:
    """Returns the layers that the slides list: convolutions, pooling, flattening and linear layers."""
    return [layer for layer in network.layers if layer.kind in ("conv", "pool", "flatten", "linear")]


def _operations(layer: Layer) -> int:
    return layer.macs + layer.pool_ops


def _side(layer: Layer) -> int:
    return layer.output[2] if len(layer.output) == 4 else 1


def _layer_checks(row: dict[str, str], layer: Layer) -> Iterator[Check]:
    """Yields the checks of one layer against its row of a slide: shape, memory, parameters and operations."""
    name, note, source = row["layer"], row["error_note"], row["source"]
    explanations = {
        "memory": note.split(";")[0] if "memory 0" in note else "",
        "parameters": note if "leaves the bias out" in note else "",
        "operations": note if "should be 150" in note else "",
    }
    other_note = "" if any(explanations.values()) else note
    yield Check(name, "maps", "", layer.output[1], row["out_channels"], EXACT, source)
    if row["out_size"]:
        yield Check(name, "side", "px", _side(layer), row["out_size"], EXACT, source)
    for quantity, unit, ours, key in (
        ("memory", "KB", layer.memory / 1024, "slide_memory_kb"),
        ("parameters", "k", layer.parameters / 1e3, "slide_params_k"),
        ("operations", "M", _operations(layer) / 1e6, "slide_mflop"),
    ):
        yield Check(name, quantity, unit, ours, row[key], ROUNDING, source, other_note, explanations[quantity])
    weights = layer.parameters - (layer.output[1] if layer.kind in ("conv", "linear") else 0)
    yield Check(name, "weights without bias", "", weights, row["computed_params_no_bias"], EXACT, _INDEPENDENT)


def _by_layer(rows: Sequence[dict[str, str]], layers: Sequence[Layer]) -> list[Check]:
    return [check for row, layer in zip(rows, layers, strict=True) for check in _layer_checks(row, layer)]


def _total(row: dict[str, str], layers: Sequence[Layer]) -> list[Check]:
    """Returns the checks of the sums over all layers, which a slide does not print, against an independent count."""
    sums = (
        ("memory", "KB", sum(layer.memory for layer in layers) / 1024, row["computed_memory_kb"], 1),
        ("parameters", "k", sum(layer.parameters for layer in layers) / 1e3, row["computed_params_with_bias"], 1e3),
        ("operations", "M", sum(map(_operations, layers)) / 1e6, row["computed_macs"], 1e6),
    )
    return [
        Check(row["layer"], name, unit, ours, f"{float(digits) / factor:.12g}", EXACT, _INDEPENDENT)
        for name, unit, ours, digits, factor in sums
    ]


def alexnet_64() -> Table:
    """Returns the checks of the AlexNet with 64 maps: 13 rows with memory, parameters and operations."""
    rows, layers = paper_table("alexnet_slide"), slide_layers(counted("alexnet-64", 227))
    checks = _by_layer(rows[:-1], layers) + _total(rows[-1], layers)
    text = f"`alexnet-64` at 227 pixels, as on the slides. {UNITS}"
    return Table("alexnet_64", "AlexNet with 64 maps, the table of the slides", text, tuple(checks), wide=True)


def alexnet_96() -> Table:
    """Returns the checks of the AlexNet with the paper's 96 maps: sizes, parameters and multiply-adds."""
    rows, network = paper_table("alexnet_paper"), counted("alexnet", 227)
    checks = [
        check for row, layer in zip(rows[1:-1], slide_layers(network), strict=True) for check in _paper(row, layer)
    ]
    total = rows[-1]
    for name, ours, key in (
        ("parameters", network.parameters, "computed_params_with_bias"),
        ("operations", network.macs(), "computed_macs"),
    ):
        checks.append(Check("total", name, "", ours, total[key], EXACT, _INDEPENDENT, "operations without pooling"))
    checks.append(_read_literally(rows, network.parameters))
    text = f"`alexnet` at 227 pixels: the widths of the paper, convolutions without groups. {UNITS}"
    return Table("alexnet_96", "AlexNet with 96 maps, the table of the slides", text, tuple(checks), wide=True)


def _paper(row: dict[str, str], layer: Layer) -> Iterator[Check]:
    """Yields the checks of one layer: maps and side against the slide, its cost against an independent count."""
    name, source = row["name"], row["source"]
    maps = row["slide_feature_maps"] or row["slide_size"]
    yield Check(name, "maps", "", layer.output[1], maps, EXACT, source, row["error_note"])
    if row["out_size"]:
        yield Check(name, "side", "px", _side(layer), row["slide_size"].split("x")[0].strip(), EXACT, source)
    yield Check(name, "parameters", "", layer.parameters, row["computed_params_with_bias"], EXACT, _INDEPENDENT)
    yield Check(name, "operations", "", _operations(layer), row["computed_macs"], EXACT, _INDEPENDENT)


def _read_literally(rows: Sequence[dict[str, str]], parameters: int) -> Check:
    """Returns the check of the total with the slide's row 6 read as a layer, which it is not."""
    row = next(row for row in rows if row["role"] == "flatten")
    units = int(row["slide_size"])
    literal = str(parameters + units * units + units)
    why = 'row "6 FC 9216" is the flattened map and not a layer; read as a layer it adds 9216 x 9216 weights and biases'
    subject = "total, rows read literally"
    return Check(subject, "parameters", "", parameters, literal, EXACT, row["source"], explanation=why)


def googlenet() -> Table:
    """Returns the checks of GoogLeNet's stem and head, and of its head's size against that of VGG-16."""
    rows, layers = paper_table("googlenet_slide"), slide_layers(counted("googlenet-noaux", 224))
    checks = _by_layer(rows[:5], layers[:5]) + _total(rows[5], layers[:5]) + _by_layer(rows[6:], layers[-2:])
    vgg = [layer for layer in counted("vgg16", 224).layers if layer.kind == "linear"]
    printed = next(row["computed_value"] for row in paper_table("vgg_slide") if row["item"] == "fc6+fc7+fc8")
    ratio = sum(layer.parameters for layer in vgg) / layers[-1].parameters
    note = f"with biases {ratio:.0f} times as many; the slide compares 1025k with biases with rows without them"
    heads = (("GoogLeNet's", layers[-1:], "1025000", ""), ("VGG-16's", vgg, printed, note))
    for owner, part, digits, head_note in heads:
        ours, value = sum(layer.parameters for layer in part) / 1e3, f"{float(digits) / 1e3:.12g}"
        checks.append(
            Check(f"{owner} head, like for like", "parameters", "k", ours, value, EXACT, _INDEPENDENT, head_note)
        )
    text = (
        f"`googlenet-noaux` at 224 pixels. {UNITS} Its poolings round sides up, those of the slides pad by 1; the "
        "sizes and the elements of the windows are the same."
    )
    return Table("googlenet", "GoogLeNet: stem and head of the slides", text, tuple(checks), wide=True)
