"""Prints the layer table of an architecture: `python -m vision_repro.accounting.explain --model=vit-b/16`.

Columns as on the lecture slides: layer, input, filters, kernel, stride, padding, output, memory (1 KB = 1024 bytes, 4
bytes an element), parameters, operations; tokens and heads if there are any.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vision_repro.accounting.folding import Row, fold
from vision_repro.accounting.layer_table import TableFormat, table
from vision_repro.accounting.layers import Account
from vision_repro.config import UserError, check_choices, describe, option, parse_single

if TYPE_CHECKING:
    from vision_repro.accounting.training import Step


@dataclass(frozen=True)
class Options:
    """The architecture to explain, and how to count its operations."""

    model: str = option("", "architecture, such as vit-b/16 or alexnet")
    image_size: int | None = option(None, "height and width [pixels]; None is the published one")
    mac: bool = option(False, "count multiply-adds; a multiply-add is 1 (the default)")
    flop: bool = option(False, "count FLOPs; a multiply-add is 2")
    taps: str = option("all", "taps of convolutions: all, or only those inside the image", ("all", "inside"))
    batch: int = option(1, "images")
    classes: int = option(1000, "classes of the head")
    fold: bool = option(True, "fold equal blocks into one")

    def __post_init__(self) -> None:
        """Checks the options.

        Raises:
            UserError: naming the option and what was expected.
        """
        check_choices(self)
        if not self.model:
            raise UserError("Which architecture? Give --model=NAME, such as --model=vit-b/16.")
        if self.mac and self.flop:
            raise UserError("--mac and --flop are two units: give one of them.")
        if self.batch < 1:
            raise UserError(f"--batch={self.batch} is too small: expected at least 1 image.")

    @property
    def table_format(self) -> TableFormat:
        """How operations are counted and printed."""
        return TableFormat(self.batch, self.taps, *(("FLOP", 2) if self.flop else ("MAC", 1)))


def explain(options: Options) -> str:
    """Returns the table of an architecture with its totals.

    Raises:
        UserError: if the architecture is unknown, or does not take the image size.
    """
    # Imported here for start-up time: torch takes long to import.
    import torch

    from vision_repro import models
    from vision_repro.accounting.architectures import published_size
    from vision_repro.accounting.profiler import account
    from vision_repro.accounting.training import training_step

    size = published_size(options.model) if options.image_size is None else options.image_size
    with torch.device("meta"):
        model = models.build(options.model, image_size=size, classes=options.classes)
    found = account(model, size, options.batch)
    step = training_step(model, size, options.batch)
    count = "a multiply-add is 2 FLOP" if options.flop else "a multiply-add is 1 MAC"
    taps = "all taps" if options.taps == "all" else "taps inside the map"
    images = f"{options.batch} image{'s' if options.batch > 1 else ''}"
    head = f"{options.model}, {size} x {size} pixels, {options.classes} classes, {images}; {count}; {taps}."
    rows = fold(found.layers) if options.fold else [Row(layer) for layer in found.layers]
    legend = "A row marked xN stands for N equal layers and has the numbers of one; --fold=False shows them all."
    folded = [legend, ""] if any(row.times > 1 for row in rows) else []
    return "\n".join(
        [
            head,
            "",
            *table(rows, options.table_format),
            "",
            *folded,
            *totals(found, step, options.table_format, f"{count}; {taps}"),
        ]
    )


def totals(found: Account, step: Step, table_format: TableFormat, words: str) -> list[str]:
    """Returns the lines under the table: parameters, operations, memory."""
    forward = found.macs(table_format.taps)
    counted = step.macs if table_format.taps == "all" else step.inside_macs
    pooling = f"; pooling {found.pool_ops / 1e6:,.2f} Mop apart" if found.pool_ops else ""
    softmax = f", {_memory(step.softmax_bytes)} of it softmax matrices, which fused attention does not save"
    return [
        f"parameters   {found.parameters:,}",
        f"forward      {_amount(forward, table_format)} ({words}){pooling}",
        f"training     {_amount(3 * forward, table_format)} by definition, 3 x forward (ViT, Table 6); counted "
        f"{_amount(counted, table_format)}, {counted / forward:.3f} x forward",
        f"memory       {_memory(found.memory)}, the outputs of the layers above (4 bytes an element, 1 MB = 1024 KB)",
        f"saved        {_memory(step.saved_bytes)} from forward to backward pass of a training step, single precision"
        f"{softmax if step.softmax_bytes else ''}",
    ]


def _amount(macs: int, table_format: TableFormat) -> str:
    """Returns multiply-adds in the chosen unit: in billions, or below 0.1 billion in millions."""
    value = table_format.factor * macs
    return f"{value / 1e9:,.3f} G{table_format.unit}" if value >= 1e8 else f"{value / 1e6:,.3f} M{table_format.unit}"


def _memory(size: int) -> str:
    return f"{size / 2**20:,.1f} MB" if size >= 2**20 else f"{size / 2**10:,.1f} KB"


def main(tokens: Sequence[str] | None = None) -> int:
    """Prints the table of the architecture on the command line; returns the exit code (0 done, 2 bad input)."""
    arguments = list(sys.argv[1:] if tokens is None else tokens)
    if "--help" in arguments or "-h" in arguments:
        print(f"{__doc__}\n{describe(Options)}")
        return 0
    try:
        print(explain(Options(**parse_single(arguments, Options))))
    except UserError as error:
        print(f"explain: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
