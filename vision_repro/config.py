"""Run configs: flat frozen dataclasses of plain scalars, read from the command line, hashed into run ids.

One name serves the dataclass field, the command line (`--lr=0.001`), the sweep file, W&B and the column of the table.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, TypeVar, get_args, get_type_hints

Scalar = str | int | float | bool | None
NORMALISATIONS = ("model", "half", "imagenet", "mean-image", "channel-mean", "channel-mean-std", "none")
VIEWS = ("crop", "square", "ten", "fifty")
FRESH = "random"
"""What stands for the weights of no training, where nothing is trained."""
RUN = "run:"
"""Begins the name of weights that another run leaves: `run:<its id>`."""
OBJECTIVES = ("supervised", "mean-colour", "downsized", "pixels", "mae")
LOSSES = ("softmax", "hinge")
C = TypeVar("C")


class UserError(Exception):
    """Something a person typed or brought is wrong; the text is one clear sentence, the exit code 2."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Returns ` Did you mean "x"?` for the known word closest to `word`, or the empty string."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f' Did you mean "{matches[0]}"?' if matches else ""


def option(default: Any, text: str, choices: Sequence[str] = (), *, weights: bool = True) -> Any:
    """Returns a dataclass field with a default, a line of help and, if given, the only values allowed.

    `weights=False` marks a field that does not decide a run's weights, only what is measured of them: see `run_id`.
    """
    return field(default=default, metadata={"help": text, "choices": tuple(choices), "weights": weights})


@dataclass(frozen=True)
class RunConfig:
    """What decides the weights of one run, and what is measured of them; no hardware, folder or logger."""

    dataset: str = option("digits", "data set to train and test on")
    image_size: int = option(8, "height and width of the images [pixels]")
    model: str = option("vit-64x4/2", "architecture and variant")
    train_size: int = option(1200, "number of training images")
    seed: int = option(0, "fixes weights, subset, order and augmentation; 0 is a seed")
    budget: str = option(
        "steps",
        "what is equal across training sizes; none trains nothing: given weights are measured",
        ("steps", "epochs", "none"),
    )
    steps: int = option(200, "optimizer steps of a run, with budget=steps")
    epochs: float = option(0.0, "passes over the training images, with budget=epochs")
    global_batch: int = option(64, "images an optimizer step over all devices")
    lr: float | None = option(None, "peak learning rate of AdamW; None is the experiment's own choice")
    weight_decay: float = option(0.1, "AdamW weight decay, on weight matrices and kernels only")
    warmup: float = option(0.1, "linear warm-up, as a fraction of the steps")
    grad_clip: float = option(1.0, "largest global norm of the gradient; 0 is off")
    augmentation: str = option("none", 'training augmentation, such as flip, crop-flip or "inception+mixup0.2"')
    select: str = option("best", "weights that are tested: best on val, or the last", ("best", "last"))
    evaluations: int = option(10, "how often val is measured in a run")
    shots: str = option("1 5 10", "images a class of the few-shot probe; empty is off", weights=False)
    draws: int = option(3, "random draws of the few-shot images", weights=False)
    precision: str = option(
        "auto", "arithmetic; auto is fp32 on a CPU, and bf16 on a GPU that has it", ("auto", "fp32", "bf16")
    )
    threads: int = option(1, "threads of a process on a CPU; more sum in another order")
    weights: str = option(
        "",
        "weights to start from: timm, a .npz, .safetensors or .ckpt file, or run:<id>; empty is from scratch",
    )
    probes: str = option("", "further measurements of the tested weights, such as attention_distance", weights=False)
    normalisation: str = option(
        "model", "what is done to the pixels; model is what the architecture expects", NORMALISATIONS
    )
    views: str = option(
        "crop",
        "what is tested of an image: its centre, the whole as a square, 10 crops, 5 scales x 10",
        VIEWS,
        weights=False,
    )
    on_bad_image: str = option("error", "what to do about an image that cannot be read", ("error", "skip"))
    objective: str = option(
        "supervised",
        "what is learned: the classes, or of corrupted patches their mean colour, 4 x 4 colours or pixels; or MAE",
        OBJECTIVES,
    )
    corrupted: float = option(0.5, "fraction of the patches that are corrupted, or masked by MAE")
    pretraining: str = option(
        "", "pre-training to start from, by the experiment's name for it; empty is none", weights=False
    )
    lr_from: str = option("", "ids of runs: lr is the one of theirs that is best on val")
    optimizer: str = option("adamw", "AdamW, or SGD with momentum 0.9", ("adamw", "sgd"))
    polyak: float = option(0.0, "factor of the Polyak average of the weights, which is tested; 0 is off")
    train_on_val: bool = option(False, "train on val too, once lr is chosen, and test the last weights")
    loss: str = option(
        "softmax",
        "what classes are learned with: softmax cross-entropy, or multiclass hinge with margin 1",
        LOSSES,
    )
    l1: float = option(0.0, "factor of sum |W| in the loss, on weight matrices and kernels only")
    l2: float = option(0.0, "factor of sum W^2 in the loss, on weight matrices and kernels only")
    variant: str = option("", "experiment's name for several options at once; empty is none", weights=False)

    def __post_init__(self) -> None:
        """Refuses values that no run could use.

        Raises:
            UserError: naming the field, its value and what was expected.
        """
        check_choices(self)
        for name, low in (
            ("train_size", 1),
            ("steps", 1),
            ("global_batch", 1),
            ("evaluations", 1),
            ("draws", 1),
            ("threads", 1),
            ("seed", 0),
        ):
            if getattr(self, name) < low:
                raise UserError(f"--{name}={getattr(self, name)} is too small: expected at least {low}.")
        if self.lr is not None and not 0 < self.lr < math.inf:
            raise UserError(f"--lr={self.lr} is not a learning rate: expected a number above 0.")
        if not 0 <= self.warmup <= 0.5:
            raise UserError(f"--warmup={self.warmup} is out of range: expected a fraction of the steps from 0 to 0.5.")
        if min(self.weight_decay, self.grad_clip) < 0:
            raise UserError("--weight_decay and --grad_clip must be 0 or more.")
        if self.budget == "epochs" and not self.epochs > 0:
            raise UserError(f"--budget=epochs needs --epochs above 0, not {self.epochs}.")
        if not 0 < self.corrupted < 1:
            raise UserError(
                f"--corrupted={self.corrupted} is no share of the patches: expected a number between 0 and 1."
            )
        if not 0 <= self.polyak < 1:
            raise UserError(f"--polyak={self.polyak} is out of range: expected 0 (off) or a factor below 1, as 0.9999.")
        for name in ("l1", "l2"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(
                    f"--{name}={getattr(self, name)} is no factor of a penalty: expected 0 (off) or a number above 0."
                )
        if self.loss != "softmax" and self.objective != "supervised":
            raise UserError(
                f"--loss={self.loss} is for classes, and --objective={self.objective} learns none: "
                "leave --loss out, or give --objective=supervised."
            )
        if self.train_on_val and self.select == "best":
            raise UserError("--train_on_val=True trains on val, which can choose nothing then: give --select=last.")
        self._check_weights()
        _ = self.shot_counts

    def _check_weights(self) -> None:
        if self.train_on_val and "linear" in self.probe_names:
            raise UserError("--probes=linear chooses on val, which --train_on_val=True trains on: leave one out.")
        if self.pretraining and self.weights and not self.weights.startswith(RUN):
            raise UserError(
                f"--pretraining={self.pretraining} and --weights={self.weights} both say where to start: give one."
            )
        if self.budget == "none" and not self.weights and not self.pretraining:
            raise UserError(
                f"--budget=none measures given weights: give --weights, or --weights={FRESH} for those of no training."
            )
        if self.budget != "none" and self.weights == FRESH:
            raise UserError(f"--weights={FRESH} is for --budget=none: training from scratch is --weights= (empty).")
        if self.probes and self.views not in ("crop", "square"):
            raise UserError(f"--probes={self.probes} look at one view of an image, not at --views={self.views}.")

    @property
    def shot_counts(self) -> tuple[int, ...]:
        """Images a class of the few-shot probe, ascending."""
        try:
            counts = tuple(sorted({int(word) for word in self.shots.split()}))
        except ValueError:
            counts = (0,)
        if any(count < 1 for count in counts):
            raise UserError(f'--shots="{self.shots}" is not a list of counts: expected numbers such as "1 5 10".')
        return counts

    @property
    def probe_names(self) -> tuple[str, ...]:
        """Further measurements of the tested weights, in the order given, each once."""
        return tuple(dict.fromkeys(self.probes.split()))

    @property
    def weights_run(self) -> str | None:
        """Id of the run whose weights this one starts from; None if it starts from no run."""
        return self.weights.removeprefix(RUN) if self.weights.startswith(RUN) else None

    @property
    def needs(self) -> tuple[str, ...]:
        """Ids of the runs that must be done before this one, each once."""
        first = (self.weights_run,) if self.weights_run else ()
        return tuple(dict.fromkeys((*first, *self.lr_from.split())))

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the run under its budget; under `epochs` rounded up to a multiple of `evaluations`."""
        if self.budget == "none":
            return 0
        if self.budget == "steps":
            return self.steps
        needed = self.epochs * self.train_size / self.global_batch
        return math.ceil(needed / self.evaluations) * self.evaluations


@dataclass(frozen=True)
class Launch:
    """Where and how the runs of an experiment are carried out; none of it is part of a run's id."""

    out: str = option("outputs", "folder for runs, tables and figures")
    data_root: str | None = option(None, "folder with data sets you already have (default: $VISION_REPRO_DATA)")
    accelerator: str = option("auto", "kind of device", ("auto", "cpu", "gpu"))
    devices: int = option(1, "devices a run (processes, on a CPU)")
    num_nodes: int = option(1, "machines a run; started by srun or torchrun")
    jobs: int = option(0, "runs at the same time; 0 is as many as the machine has room for")
    accumulate: int = option(1, "micro-batches an optimizer step")
    workers: int = option(2, "processes a device that decode images, where they are not held in memory")
    decoded_cache: bool = option(False, "keep decoded images on disk, where they are not held in memory")
    wandb: str = option("auto", "log to W&B: online with a key, else offline; WANDB_MODE goes first", ("auto", "off"))
    wandb_report: bool = option(False, "log figure, table and verdicts to W&B too, as one run of the group")
    checkpoint_seconds: float = option(30.0, "shortest time between two checkpoints of a run")
    compile: str = option("auto", "torch.compile: auto is on for long runs on a GPU", ("auto", "on", "off"))
    engine: str = option("local", "who starts the runs: this process, or SLURM as a job array", ("local", "slurm"))
    partition: str = option("", "SLURM: partition of the jobs; empty is the cluster's default")
    tasks: int = option(0, "SLURM: array tasks that share the runs, each --jobs at a time; 0 is enough for all")
    time_limit: str = option("", "SLURM: longest time of a job, such as 4:00:00; a stopped job goes on in the next")
    sbatch: str = option("", 'SLURM: further options of sbatch, such as "--account=vision --gres=gpu:a100:1"')
    only: str = option("", "ids of the runs to do, separated by spaces, and no summary after them; empty is all")
    dry_run: bool = option(False, "print the runs and their estimated cost, and stop")

    def __post_init__(self) -> None:
        """Refuses impossible values.

        Raises:
            UserError: naming the option, its value and what was expected.
        """
        check_choices(self)
        for name in ("devices", "num_nodes", "accumulate", "jobs", "workers", "tasks", "checkpoint_seconds"):
            low = 1 if name in ("devices", "num_nodes", "accumulate") else 0
            if getattr(self, name) < low:
                raise UserError(f"--{name}={getattr(self, name)} is too small: expected at least {low}.")
        for name in ("partition", "tasks", "time_limit", "sbatch"):
            if getattr(self, name) and self.engine != "slurm":
                raise UserError(f"--{name}={getattr(self, name)} is for --engine=slurm: give both or leave it out.")


def check_choices(config: Any) -> None:
    """Raises UserError if a field with declared choices holds something else."""
    for item in fields(config):
        choices, value = item.metadata.get("choices", ()), getattr(config, item.name)
        if choices and value not in choices:
            known = ", ".join(choices)
            raise UserError(
                f'--{item.name}="{value}" is unknown: expected one of {known}.{nearest(str(value), choices)}'
            )


DEFAULTS: dict[str, Scalar] = asdict(RunConfig())
"""The value of every field that was not chosen."""


def plain(config: Any) -> dict[str, Scalar]:
    """Returns the config as a dict of JSON scalars, in field order."""
    return dict(asdict(config))


def weights_config(config: RunConfig) -> RunConfig:
    """Returns the config of what decides the weights: every other field at its default.

    Of `views` it keeps "square", because `val`, by which weights are selected, is then seen as a square too.
    """
    others = {item.name: item.default for item in fields(config) if not item.metadata["weights"]}
    return replace(config, **{**others, "views": "square"} if config.views == "square" else others)


def run_id(config: RunConfig) -> str:
    """Returns the id of a run: 12 hex digits of the SHA-256 of what decides its weights.

    Neither the experiment nor what is measured later, hardware or folder is part of it. Fields at their default are
    left out, so that a new field leaves all ids as they were; a default must therefore never change its meaning.
    """
    counted = {name: value for name, value, default in _deciding(config) if value != default}
    text = json.dumps(counted, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _deciding(config: RunConfig) -> Iterator[tuple[str, Scalar, Scalar]]:
    """Yields name, value and default of each field that decides the weights; a float field has floats, 1 is 1.0."""
    for item in fields(config):
        value: Scalar = getattr(config, item.name)
        if "float" in str(item.type) and isinstance(value, int):
            value = float(value)
        if item.metadata["weights"] or (item.name == "views" and value == "square"):
            yield item.name, value, DEFAULTS[item.name]


def parse_scalar(name: str, text: str, kind: Any) -> Scalar:
    """Returns `text` as a value of type `kind`, accepting Python's `str` of every scalar (`False`, `None`, `1e-05`).

    Raises:
        UserError: if the text is no such value.
    """
    kinds = get_args(kind) or (kind,)
    if type(None) in kinds and text in ("None", "none", "null"):
        return None
    base = next(item for item in kinds if item is not type(None))
    words = {"true": True, "false": False}
    try:
        if base is bool:
            return words[text.lower()]
        if base is int:
            return int(text)
        if base is float:
            return float(text)
    except (KeyError, ValueError):
        raise UserError(f'--{name}="{text}" is not {_KIND_NAMES[base]}.') from None
    return text


_KIND_NAMES = {bool: "True or False", int: "a whole number", float: "a number"}


def parse_options(tokens: Sequence[str], *types: type) -> dict[str, list[Scalar]]:
    """Reads `--key=value` tokens for the fields of the dataclasses `types`; a comma separates several values.

    The last of two equal keys wins. W&B's own `--_wandb` token of resumed trials is dropped.

    Raises:
        UserError: for a token of another form, an unknown key (with the nearest one) or a value of the wrong type.
    """
    hints: dict[str, Any] = {}
    for item in types:
        hints.update(get_type_hints(item))
    values: dict[str, list[Scalar]] = {}
    for token in tokens:
        name, equals, text = token.removeprefix("--").partition("=")
        name = name.replace("-", "_")
        if name == "_wandb":
            continue
        if not token.startswith("--"):
            raise UserError(f'"{token}" is not an option: expected --key=value.')
        if name not in hints:
            raise UserError(f"--{name} is unknown.{nearest(name, hints)} See --help for all options.")
        if not equals:
            if hints[name] is not bool:
                raise UserError(f"--{name} needs a value: expected --{name}=value.")
            text = "True"
        values[name] = [parse_scalar(name, part.strip(), hints[name]) for part in text.split(",")]
    return values


def parse_single(tokens: Sequence[str], kind: type) -> dict[str, Any]:
    """Reads `--key=value` tokens for the fields of the dataclass `kind`, one value a key.

    Raises:
        UserError: as `parse_options`, and for several values of a key.
    """
    return {name: single(name, values) for name, values in parse_options(tokens, kind).items()}


def single(name: str, values: Sequence[Scalar]) -> Any:
    """Returns the only one of an option's values.

    Raises:
        UserError: if there are several.
    """
    if len(values) != 1:
        raise UserError(f"--{name} takes one value, not {len(values)}.")
    return values[0]


def construct(kind: type[C], values: Mapping[str, Scalar]) -> C:
    """Returns `kind(**values)` for values read from a file.

    Raises:
        UserError: if a key is no field of `kind` or a value has the wrong type.
    """
    hints = get_type_hints(kind)
    for name, value in values.items():
        if name not in hints:
            raise UserError(f'The config key "{name}" is unknown.{nearest(name, hints)}')
        allowed = get_args(hints[name]) or (hints[name],)
        if float in allowed and type(value) is int:
            continue
        if type(value) not in allowed:
            raise UserError(f"The config value {name}={value!r} has the wrong type.")
    return kind(**values)


def describe(*types: type) -> str:
    """Returns one line of help for each field of the dataclasses `types`."""
    lines = []
    for kind in types:
        for item in fields(kind):
            text = str(item.metadata.get("help", ""))
            choices = item.metadata.get("choices", ())
            text += f" ({', '.join(choices)})" if choices else ""
            lines.append(f"  --{item.name:<16} {text}")
    return "\n".join(lines)
