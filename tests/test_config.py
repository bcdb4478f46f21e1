import dataclasses

import pytest

from vision_repro.config import Launch, RunConfig, UserError, construct, nearest, parse_options, plain, run_id

DEFAULTS: dict[str, object] = {
    "augmentation": "none", "budget": "steps", "corrupted": 0.5, "dataset": "digits", "epochs": 0.0, "evaluations": 10,
    "global_batch": 64, "grad_clip": 1.0, "image_size": 8, "l1": 0.0, "l2": 0.0, "loss": "softmax", "lr": None,
    "lr_from": "", "model": "vit-64x4/2", "normalisation": "model", "objective": "supervised", "on_bad_image": "error",
    "optimizer": "adamw", "polyak": 0.0, "precision": "auto", "seed": 0, "select": "best", "steps": 200, "threads": 1,
    "train_on_val": False, "train_size": 1200, "warmup": 0.1, "weight_decay": 0.1, "weights": "",
}  # fmt: skip
"""Defaults of the fields that decide the weights. They are left out of ids: none may ever change."""
MEASURING = {"shots": "7", "draws": 5, "probes": "knn", "views": "ten", "pretraining": "mae", "variant": "x"}


def test_no_default_ever_changes() -> None:
    deciding = {item.name: item.default for item in dataclasses.fields(RunConfig) if item.metadata["weights"]}
    assert {name: deciding[name] for name in DEFAULTS} == DEFAULTS
    assert all(type(deciding[name]) is type(value) for name, value in DEFAULTS.items())
    others = {item.name for item in dataclasses.fields(RunConfig)} - set(deciding)
    assert others == set(MEASURING)


def test_ids_are_stable_across_versions() -> None:
    # A changed id would orphan every finished run: change it only with a note in the changelog.
    assert run_id(RunConfig()) == "44136fa355b3"
    some = RunConfig(model="bit-r11x0.15", lr=1e-3, seed=3, augmentation="crop-flip", precision="fp32")
    assert run_id(some) == "09aa058a51ca"


def test_an_id_depends_on_what_decides_the_weights_and_on_nothing_else() -> None:
    base = RunConfig()
    assert run_id(base) == run_id(RunConfig(**plain(base)))
    changed = {"seed": 1, "train_size": 7, "lr": 0.5, "precision": "fp32", "augmentation": "flip", "threads": 2}
    ids = {run_id(dataclasses.replace(base, **{name: value})) for name, value in changed.items()}
    assert len(ids | {run_id(base)}) == len(changed) + 1
    assert {run_id(dataclasses.replace(base, **{name: value})) for name, value in MEASURING.items()} == {run_id(base)}


def test_views_that_change_val_too_decide_the_weights() -> None:
    crop, square, ten = (RunConfig(views=views) for views in ("crop", "square", "ten"))
    assert run_id(crop) == run_id(ten) != run_id(square)


def test_a_whole_number_is_the_same_as_its_float() -> None:
    assert run_id(RunConfig(grad_clip=2)) == run_id(RunConfig(grad_clip=2.0))
    assert run_id(RunConfig(lr=1)) == run_id(RunConfig(lr=1.0))


@pytest.mark.parametrize("value", [1e-05, 0.0, 3, False, True, None, 0, "vit-64x4/2"])
def test_reads_what_wandb_writes(value: object) -> None:
    create = pytest.importorskip("wandb.sdk.launch.sweeps.utils").create_sweep_command_args
    field = {bool: "dry_run", int: "seed", str: "model"}.get(type(value), "lr")
    args = create({"args": {field: {"value": value}}})["args"]
    assert parse_options(args, RunConfig, Launch)[field] == [value]


def test_commas_make_axes_and_the_last_key_wins() -> None:
    assert parse_options(["--seed=1", "--seed=0,2"], RunConfig) == {"seed": [0, 2]}
    assert parse_options(["--shots="], RunConfig) == {"shots": [""]}
    assert parse_options(["--_wandb={}", "--dry-run"], Launch) == {"dry_run": [True]}


@pytest.mark.parametrize(
    ("token", "words"),
    [
        ("--modle=x", 'Did you mean "model"'),
        ("--steps=many", "a whole number"),
        ("--lr=fast", "a number"),
        ("--dry_run=perhaps", "True or False"),
        ("steps=3", "not an option"),
        ("--steps", "needs a value"),
    ],
)
def test_bad_tokens_get_one_clear_sentence(token: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        parse_options([token], RunConfig, Launch)


@pytest.mark.parametrize(
    "bad",
    [
        {"steps": 0},
        {"seed": -1},
        {"lr": 0.0},
        {"lr": float("nan")},
        {"warmup": 0.9},
        {"budget": "step"},
        {"budget": "epochs"},
        {"shots": "1 x"},
        {"shots": "0"},
        {"grad_clip": -1.0},
        {"train_size": 0},
    ],
)
def test_impossible_values_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(UserError):
        RunConfig(**bad)  # type: ignore[arg-type]


def test_values_from_a_file_are_checked() -> None:
    assert construct(RunConfig, {"lr": 1, "seed": 0}).lr == 1
    with pytest.raises(UserError, match="unknown"):
        construct(RunConfig, {"sede": 0})
    with pytest.raises(UserError, match="wrong type"):
        construct(RunConfig, {"seed": "0"})


def test_epochs_policy_counts_steps() -> None:
    assert RunConfig(budget="epochs", epochs=2.0, train_size=100, global_batch=50, evaluations=3).total_steps == 6
    assert nearest("cpuu", ["cpu", "gpu"]) == ' Did you mean "cpu"?'
    assert nearest("zzz", ["cpu"]) == ""
