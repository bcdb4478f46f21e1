"""Pre-training without labels: what its names say, and the runs of each stage."""

from __future__ import annotations

import pytest

from vision_repro.config import FRESH, RunConfig, UserError
from vision_repro.presets.masked import DRAWS, Stages, Start, lengths, parse

STAGES = Stages({"steps": 12, "evaluations": 5, "train_size": 90}, {"weight_decay": 0.3}, lr=0.02)


@pytest.mark.parametrize(
    ("word", "start", "label"),
    [
        ("supervised", Start("supervised", 0.5, None), "supervised"),
        ("mean-colour", Start("mean-colour", 0.5, None), "mean colour, 50 %"),
        ("mean-colour-15", Start("mean-colour", 0.15, None), "mean colour, 15 %"),
        ("pixels@100", Start("pixels", 0.5, 100), "all pixels, 50 %"),
        ("mae", Start("mae", 0.75, None), "MAE, 75 %"),
        ("mae-60@8", Start("mae", 0.6, 8), "MAE, 60 %"),
        ("downsized-5", Start("downsized", 0.05, None), "4 x 4 colours, 5 %"),
    ],
)
def test_a_start_is_read(word: str, start: Start, label: str) -> None:
    found = parse(word)
    assert found == start
    assert found.label == label


@pytest.mark.parametrize("word", ["", "scratch"])
def test_no_start_is_read(word: str) -> None:
    assert parse(word) is None
    assert STAGES.pretraining_of(RunConfig(pretraining=word)) is None


@pytest.mark.parametrize(
    "word", ["colour", "mean-colour-0", "mean-colour-100", "supervised-15", "mae@", "mae@0", "mae@1.5", "Supervised"]
)
def test_other_words_are_refused(word: str) -> None:
    with pytest.raises(UserError, match="is no pre-training: expected scratch, supervised, or mean-colour") as caught:
        parse(word)
    assert f'--pretraining="{word}"' in str(caught.value)


def test_pre_training_takes_its_own_fields_and_the_last_weights() -> None:
    config = RunConfig(pretraining="mean-colour-15", steps=3, train_size=10, shots="5", probes="linear", seed=4)
    found = STAGES.pretraining_of(config)
    assert found is not None
    assert (found.steps, found.evaluations, found.train_size, found.lr) == (12, 4, 90, 0.02)
    assert (found.objective, found.corrupted, found.select, found.seed) == ("mean-colour", 0.15, "last", 4)
    assert (found.pretraining, found.shots, found.probes, found.weights) == ("", "", "", "")
    shorter = STAGES.pretraining_of(RunConfig(pretraining="supervised@7"))
    assert shorter is not None
    assert (shorter.steps, shorter.evaluations, shorter.corrupted) == (7, 1, RunConfig.corrupted)


def test_each_stage_is_filled_and_a_rate_that_was_asked_for_stays() -> None:
    scratch = STAGES.filled(RunConfig(pretraining="scratch", steps=3))
    assert (scratch.pretraining, scratch.steps, scratch.weight_decay, scratch.lr) == ("", 15, 0.3, 0.02)
    tuned = STAGES.filled(RunConfig(pretraining="pixels", steps=3, lr=0.5))
    assert (tuned.pretraining, tuned.steps, tuned.lr) == ("pixels", 3, 0.5)
    frozen = STAGES.filled(RunConfig(pretraining="scratch", budget="none", shots=""))
    assert (frozen.weights, frozen.shots, frozen.probes, frozen.draws, frozen.lr) == (FRESH, "5", "linear", DRAWS, None)


def test_lengths_are_those_of_one_target_and_share() -> None:
    words = ("scratch", "mae", "mean-colour", "mean-colour-15", "mean-colour@75", "mean-colour@300", "pixels@75")
    usual = Start("mean-colour", 0.5, 1200)
    assert list(lengths(words, usual).items()) == [(75, words[4]), (300, words[5]), (1200, words[2])]
