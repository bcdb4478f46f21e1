"""`python -m vision_repro.explorer`: one HTML file in which a person walks over a model's attention.

A picture, a layer and a head are chosen; a patch is pointed at; the page shows where it attends, how far, and the
rollout of the class token. The file needs no server and no network. Weights of a run bring their model, image size,
data set and normalisation along, from the `config.yaml` beside them.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from vision_repro.config import Scalar, UserError, describe, option, parse_options, single
from vision_repro.explorer.html import render
from vision_repro.store.atomic import write_atomic

if TYPE_CHECKING:
    from torch import nn

    from vision_repro.explorer.pictures import Pictures
    from vision_repro.models.weights import Loaded

LARGEST = 10_000_000
"""Size of a page that mail programs and browsers still take without complaint [bytes]."""
_FROM_RUN = ("model", "image_size", "dataset", "normalisation")


@dataclass(frozen=True)
class Options:
    """What a person can say about a page on the command line."""

    model: str = option("vit-64x4/4", "architecture and variant, or timm:<model>.<tag>")
    weights: str = option("", "weights: timm, a file, or weights.ckpt of a run; empty is random weights")
    image_size: int = option(32, "height and width of the images [pixels]")
    dataset: str = option("cifar10", "data set whose val images are shown")
    images: int = option(6, "images of the data set on the page")
    files: str = option("", "own images instead, such as a.jpg,b.png")
    layers: str = option("", 'layers to keep, counted from 1, such as "1 6 12"; empty is as many as fit')
    normalisation: str = option("model", "what is done to the pixels; model is what the architecture expects")
    seed: int = option(0, "which images are shown, and random weights")
    data_root: str | None = option(None, "folder with data sets you already have (default: $VISION_REPRO_DATA)")
    out: str = option("", "the page (default: outputs/explorer/<name>.html)")

    def __post_init__(self) -> None:
        """Raises UserError for values that no page could have."""
        for name, low in (("image_size", 1), ("images", 1), ("seed", 0)):
            if getattr(self, name) < low:
                raise UserError(f"--{name}={getattr(self, name)} is too small: expected at least {low}.")
        _ = self.kept

    @property
    def kept(self) -> tuple[int, ...]:
        """Layers to keep, counted from 0, ascending; empty is as many as fit."""
        try:
            found = tuple(sorted({int(word) - 1 for word in self.layers.split()}))
        except ValueError:
            found = (-1,)
        if any(layer < 0 for layer in found):
            raise UserError(f'--layers="{self.layers}" is not a list of layers: expected numbers such as "1 6 12".')
        return found

    @property
    def page(self) -> Path:
        """Where the page goes.

        Raises:
            UserError: if a folder stands there, or the name is not one of a page.
        """
        path = Path(self.out).expanduser() if self.out else Path("outputs/explorer") / f"{self._name()}.html"
        if path.is_dir():
            raise UserError(f'--out="{path}" is a folder: expected a file, such as {path / "explorer.html"}.')
        if path.suffix.lower() not in (".html", ".htm"):
            raise UserError(f'--out="{path}" is no page: expected a name that ends in .html.')
        return path

    def _name(self) -> str:
        weights = Path(self.weights)
        trained = weights.parent.name if weights.name == "weights.ckpt" else weights.stem
        words = (self.model, "files" if self.files else self.dataset, trained or "random")
        return re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join(words))[:150]


def read(tokens: Sequence[str]) -> Options:
    """Returns the options on the command line, and those of the run whose weights are given.

    Raises:
        UserError: for an option that is unknown, of a wrong type, or given several values where one is meant.
    """
    values = parse_options(tokens, Options)
    files = ",".join(str(item) for item in values.pop("files", []))
    given: dict[str, Any] = {name: single(name, items) for name, items in values.items()}
    if files:
        given["files"] = files
    return Options(**{**_of_run(str(given.get("weights", ""))), **given})


def _of_run(weights: str) -> dict[str, Scalar]:
    """Returns what the config beside a run's weights says of model and images; nothing where there is none."""
    file = Path(weights).expanduser().with_name("config.yaml") if Path(weights).name else None
    if file is None or not file.is_file():
        return {}
    try:
        config = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise UserError(
            f'"{file}" beside the weights cannot be read ({type(error).__name__}): expected the config of a run.'
        ) from None
    config = config if isinstance(config, Mapping) else {}
    kinds = {item.name: type(item.default) for item in fields(Options)}
    return {name: config[name] for name in _FROM_RUN if isinstance(config.get(name), kinds[name])}


def _pictures(options: Options) -> Pictures:
    # Imported here for start-up time: torch takes long to import.
    from vision_repro.explorer import pictures
    from vision_repro.files.places import cache_folder

    if options.files:
        return pictures.of_files([name for name in options.files.split(",") if name], options.image_size)
    root = options.data_root or os.environ.get("VISION_REPRO_DATA")
    return pictures.of_data_set(
        options.dataset,
        Path(root) if root else None,
        cache_folder(),
        size=options.image_size,
        count=options.images,
        seed=options.seed,
    )


def _model(options: Options, classes: int) -> tuple[nn.Module, Loaded | None]:
    """Returns the model, and what was loaded into it; nothing was if its weights are random."""
    # Imported here for start-up time: torch takes long to import.
    import torch

    from vision_repro import models
    from vision_repro.models import weights
    from vision_repro.store.runs import check_weights

    torch.manual_seed(options.seed)
    model = models.build(options.model, image_size=options.image_size, classes=classes)
    if not options.weights:
        return model, None
    weights.fetch(options.model, options.weights)
    check_weights(Path(options.weights).expanduser())
    size = options.image_size
    return model, weights.load(model, options.model, options.weights, image_size=size, keep_head=True)


def content(options: Options) -> dict[str, Any]:
    """Returns all that the page shows, as JSON values.

    Raises:
        UserError: if model, weights and images do not go together, or are not there.
    """
    # Imported here for start-up time: torch takes long to import.
    from vision_repro.augmentation import normalisation
    from vision_repro.explorer import content

    kind = normalisation.default_for(options.model) if options.normalisation == "model" else options.normalisation
    if kind in normalisation.MEASURED:
        raise UserError(
            f"--normalisation={kind} is measured on the training images of a run, which are not read here: "
            f"expected one of {', '.join(normalisation.FIXED)}."
        )
    normalise = normalisation.statistics(kind)
    _check(options)
    pictures = _pictures(options)
    model, loaded = _model(options, len(pictures.classes) or 1000)
    found = content.look(model, normalise(pictures.images), options.image_size)
    room = LARGEST - 500_000 - sum(map(len, pictures.uris))  # half a megabyte for the page itself, numbers and names
    return {
        "model": options.model,
        "weights": _words(loaded),
        "random": loaded is None,
        "source": pictures.source,
        "image_size": options.image_size,
        "images": content.described(pictures, found, predicted=bool(loaded and loaded.head)),
        **content.fitted(found, options.kept, room),
    }


def _check(options: Options) -> None:
    """Raises UserError, before anything is read, for a model whose attention no page can show."""
    # Imported here for start-up time: torch takes long to import.
    import torch

    from vision_repro import models
    from vision_repro.explorer import content
    from vision_repro.probes import attention

    with torch.device("meta"):
        sketch = models.build(options.model, image_size=options.image_size, classes=1)
    content.check(attention.geometry(sketch, options.image_size), options.image_size, options.kept)


def _words(loaded: Loaded | None) -> str:
    """Returns whose weights these are, in words."""
    if loaded is None:
        return "random weights"
    resized = "; position embeddings interpolated" if loaded.resized else ""
    licence = f"; licence {loaded.licence}" if loaded.licence else ""
    file = Path(loaded.source)  # of a path only the end: a page is passed on, and folders name people
    source = loaded.source if loaded.source.startswith("timm:") else f"{file.parent.name}/{file.name}"
    return f"weights {source} (SHA-256 {loaded.sha256[:12]}{licence}{resized})"


def write(options: Options) -> Path:
    """Writes the page and returns its path.

    Raises:
        UserError: as `content`, or if the file cannot be written.
    """
    path = options.page
    shown = content(options)
    page = render(shown).encode()
    if len(page) > LARGEST:
        raise UserError(f"The page would have {len(page) / 1e6:.1f} MB: choose fewer --images.")
    write_atomic(path, page)
    kept = ", ".join(str(layer + 1) for layer in shown["kept"])
    print(
        f"{path} ({len(page) / 1e6:.1f} MB): images {len(shown['images'])}, layers {kept} of {len(shown['heads'])}, "
        f"{shown['weights']}; largest error of an attention weight {shown['error']:.1e}"
    )
    if not options.kept and len(shown["kept"]) < len(shown["heads"]):
        print("Fewer --images leave room for more layers.")
    return path


def main(tokens: Sequence[str]) -> int:
    """Writes a page; returns the exit code (0 well, 2 bad input)."""
    if "--help" in tokens:
        print(f"usage: python -m vision_repro.explorer [--key=value ...]\n\n{describe(Options)}")
        return 0
    try:
        write(read(tokens))
        return 0
    except UserError as error:
        print(f"explorer: {error}", file=sys.stderr)
        return 2
