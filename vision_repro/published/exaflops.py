"""Compares parameters, multiply-adds and exaFLOPs printed in the papers with counts of the networks built here."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from vision_repro.accounting.architectures import architectures, counted
from vision_repro.accounting.check import EXACT, Band, Check, Table
from vision_repro.accounting.flops import FLOPS_PER_MAC, training_flops
from vision_repro.accounting.layers import Account, Layer
from vision_repro.papers.tables import paper_table

JFT_IMAGES, JFT_CLASSES = 303_000_000, 18_291
"""ViT, section 4.1; BiT, section 3.1."""
ONE_PERCENT, PRINTED, DIGITS = Band(0.01), Band(0.01, rounding=True), Band(rounding=True)
TABLE_6 = {
    "inside": {"vit": Band(0.01), "hybrid": Band(0.01), "resnet": Band(0.015)},
    "all": {"vit": Band(0.03), "hybrid": Band(0.03), "resnet": Band(0.05)},
}
"""Taps that are counted -> family -> band."""
OUR_NAMES = {"R+ViT-Ti/16": "r+vit-ti/32", "ViT-b/32": "vit-b-half/32"}
_CUT = "the digits are cut off, not rounded (inferred)"
_META = "torchvision's own count of this network equals ours; the paper does not say how it counts"
EXPLAINED = {
    ("resnet34", 224): _CUT,
    ("resnet50-v1", 224): _CUT,
    ("efficientnet-b4", 380): _META,
    ("efficientnet-b5", 456): _META,
    ("efficientnet-b7", 600): _META,
}
"""(architecture, image size) -> reason why its source prints different multiply-adds."""


def our_name(model: str) -> str:
    """Returns our name for a model of the papers: both `ResNet50x1` and `R50x1` become `bit-r50x1`."""
    if model in OUR_NAMES:
        return OUR_NAMES[model]
    name = model.lower()
    if "+" in name or name.startswith(("vit", "swin")):
        return name.replace("r50x1+", "r50+")
    return f"bit-r{name.removeprefix('resnet').removeprefix('r')}"


def head_of(network: Account) -> Layer:
    """Returns the final linear layer; in a BiT it is a 1x1 convolution."""
    return [layer for layer in network.layers if layer.kind in ("linear", "conv")][-1]


def macs_with_classes(network: Account, classes: int, taps: str) -> int:
    """Returns the multiply-adds of a forward pass with another number of classes (0: without head)."""
    head = head_of(network)
    return network.macs(taps) - head.macs + head.macs * classes // head.output[1]


def exaflops(model: str, epochs: float, taps: str) -> float:
    """Returns the exaFLOPs of pre-training on JFT at 224 pixels: 3 x forward x images; a multiply-add is 2 FLOPs."""
    forward = FLOPS_PER_MAC * macs_with_classes(counted(our_name(model), 224), JFT_CLASSES, taps)
    return training_flops(forward, round(JFT_IMAGES * epochs)) / 1e18


def _independent(row: dict[str, str], subject: str, network: Account) -> Iterator[Check]:
    """Yields checks against the independent counts of a row: parameters exactly, GMACs to the printed digits."""
    bare = network.parameters - head_of(network).parameters
    found = {
        "computed_params_1000_head": ("parameters, 1000 classes", "", network.parameters),
        "computed_params_no_head": ("parameters, no head", "", bare),
        "computed_gmac_224_no_head": ("forward, no head", "GMAC", macs_with_classes(network, 0, "all") / 1e9),
        "computed_gmac": ("forward", "GMAC", network.macs() / 1e9),
    }
    for key, (quantity, unit, ours) in found.items():
        if row.get(key):
            band = DIGITS if unit else EXACT
            yield Check(subject, quantity, unit, ours, row[key], band, f"independent count; {row['source']}")


def vit_table_1() -> Table:
    """Returns the checks of ViT's Table 1 and the authors' smaller sizes: printed millions and independent counts."""
    checks: list[Check] = []
    why = "Table 1 prints one number for each size, for patches of 16 pixels; patches of 32 have 1.7M more weights"
    for row in paper_table("vit_variants"):
        if not row["computed_params_1000_head"]:
            continue  # rows without a patch size have no count
        name, model = our_name(row["model"]), row["model"]
        network = counted(name, 224)
        if row["paper_params_m"]:
            quantity, printed = "parameters, as printed", row["paper_params_m"]
            millions, reason = network.parameters / 1e6, why if name == "vit-b/32" else ""
            checks.append(
                Check(model, quantity, "M", millions, printed, ONE_PERCENT, row["source"], row["note"], reason)
            )
        checks += _independent(row, model, network)
    text = "At 224 pixels. Printed millions are compared with a head of 1000 classes; GMACs are without head."
    return Table("vit_table1", "ViT, Table 1, and the authors' smaller sizes", text, tuple(checks), wide=True)


def vit_table_6() -> Table:
    """Returns the checks of the 18 exaFLOPs of ViT's Table 6, counted over all taps and over inside taps."""
    checks = []
    for row in paper_table("vit_table6"):
        subject = f"{row['model']}, {row['epochs']} epochs"
        odd = row["note"] if "unexplained" in row["note"] or "inconsistent" in row["note"] else ""
        note, printed, source = "" if odd else row["note"], row["exaflops"], row["source"]
        for taps, bands in TABLE_6.items():
            ours, band = exaflops(row["model"], float(row["epochs"]), taps), bands[row["family"]]
            checks.append(Check(subject, f"{taps} taps", "exaFLOPs", ours, printed, band, source, note, odd))
    text = (
        "Pre-training at 224 pixels: 3 x forward x 303 million images x epochs, a multiply-add is 2 FLOPs, 18,291 "
        f"classes. Over the 17 rows without the misprint: {_fit(checks, 'inside')}; {_fit(checks, 'all')}. So the "
        "table counts only taps inside the map. The band for all taps is that of an ordinary FLOP counter."
    )
    return Table("vit_table6", "ViT, Table 6: exaFLOPs", text, tuple(checks), wide=True)


def _fit(checks: Sequence[Check], taps: str) -> str:
    """Returns the geometric mean ratio and the RMS logarithmic error over all rows except the misprint, as text."""
    logs = [
        math.log(check.ratio)
        for check in checks
        if check.quantity.startswith(taps) and check.ratio and "misprint" not in check.explanation
    ]
    mean, spread = sum(logs) / len(logs), math.sqrt(sum(log * log for log in logs) / len(logs))
    return f"{taps} taps, mean ratio {math.exp(mean):.3f}, root mean square of the log error {100 * spread:.2f} %"


def bit() -> Table:
    """Returns the checks of BiT without head against independent counts."""
    checks = []
    for row in paper_table("bit_architectures"):
        if row["confidence"] != "computed":
            continue
        network = counted(our_name(row["model"]), 224)
        quantity, unit, ours, band = "forward, no head", "GMAC", macs_with_classes(network, 0, "all") / 1e9, DIGITS
        if row["quantity"] == "parameters":
            quantity, unit, ours, band = (
                "parameters, no head",
                "",
                network.parameters - head_of(network).parameters,
                EXACT,
            )
        checks.append(Check(row["model"], quantity, unit, ours, row["value"], band, row["source"], row["note"]))
    text = "At 224 pixels, all taps. The 928 million of the BiT paper are R152x4 without head."
    return Table("bit", "BiT", text, tuple(checks), wide=True)


def hybrids() -> Table:
    """Returns the checks of the hybrids against independent counts."""
    rows = paper_table("hybrid_variants")
    checks = [check for row in rows for check in _independent(row, row["model"], counted(our_name(row["model"]), 224))]
    text = "At 224 pixels, all taps, without head."
    return Table("hybrids", "Hybrids of ResNet and ViT", text, tuple(checks), wide=True)


def swin() -> Table:
    """Returns the checks of Swin's sizes against the paper's numbers and independent counts."""
    checks: list[Check] = []
    for row in paper_table("swin_variants"):
        if row["pretrain_data"] != "none" and row["model"] != "Swin-L":
            continue  # the same networks with other weights
        subject, source, note = f"{row['model']}, {row['resolution_px']} px", row["source"], row["note"]
        network = counted(our_name(row["model"]), int(row["resolution_px"]))
        why = note if note.endswith("M") else ""  # the README prints other parameters
        gmac_note = note if not why and "README" in note else ""
        millions, gmacs = network.parameters / 1e6, network.macs() / 1e9
        printed = (row["printed_params_m"], row["printed_gmac"])
        checks.append(Check(subject, "parameters, printed", "M", millions, printed[0], PRINTED, source, "", why))
        checks.append(Check(subject, "forward, printed", "GMAC", gmacs, printed[1], PRINTED, source, gmac_note))
        checks += _independent(row, subject, network)
    text = "The paper prints multiply-adds under the name FLOPs. Head of 1000 classes, all taps."
    return Table("swin", "Swin Transformer", text, tuple(checks), wide=True)


def all_published() -> Table:
    """Returns the checks of every architecture's `PUBLISHED` entries: parameters exactly, printed GMACs within 1 %."""
    checks = []
    for item in architectures():
        entry, source = item.published, item.published.source
        subject, why = f"{entry.name}, {entry.image_size} px", EXPLAINED.get((entry.name, entry.image_size), "")
        checks.append(Check(subject, "parameters", "", item.parameters, str(entry.parameters), EXACT, source))
        if entry.gmacs is not None:
            gmacs, printed = item.macs / 1e9, str(entry.gmacs)
            checks.append(Check(subject, "forward", "GMAC", gmacs, printed, PRINTED, source, explanation=why))
    text = "For 1000 classes. Printed multiply-adds are over all taps, under whatever name the source uses."
    return Table("architectures_checked", "Every published architecture", text, tuple(checks), wide=True)
