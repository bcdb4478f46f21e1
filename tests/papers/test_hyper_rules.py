"""The papers' rules for hyper-parameters against the papers' numbers."""

import math
import subprocess
import sys

import pytest

from vision_repro.config import UserError
from vision_repro.papers import hyper_rules as h
from vision_repro.papers.recipes import LINEAR_END, Schedule
from vision_repro.papers.tables import paper_table


def released_bit_rate(step: int, examples: int) -> float | None:
    """The rule of BiT's release, written out: None is the end of training."""
    supports = [100, 200, 300, 400, 500] if examples < 20_000 else [500, 3000, 6000, 9000, 10_000]
    supports = supports if examples < 500_000 else [500, 6000, 12_000, 18_000, 20_000]
    if step < supports[0]:
        return 0.003 * step / supports[0]
    if step >= supports[-1]:
        return None
    rate = 0.003
    for support in supports[1:]:
        if support < step:
            rate /= 10
    return rate


@pytest.mark.parametrize("examples", [1, 1000, 19_999, 20_000, 50_000, 499_999, 500_000, 1_281_167])
def test_released_hyper_rule_step_by_step(examples: int) -> None:
    rule = h.bit_hyper_rule(examples, 300, 400, variant="release")
    assert released_bit_rate(rule.schedule.steps, examples) is None
    for step in range(rule.schedule.steps):
        assert rule.schedule.rate(step, 0.003) == pytest.approx(released_bit_rate(step, examples), rel=1e-12)


@pytest.mark.parametrize(
    ("examples", "steps", "decays", "mixup"),
    [
        (1020, 500, (150, 300, 450), 0),
        (50_000, 10_000, (3000, 6000, 9000), 0.1),
        (10**6, 20_000, (6000, 12_000, 18_000), 0.1),
    ],
)
def test_papers_hyper_rule(examples: int, steps: int, decays: tuple[int, ...], mixup: float) -> None:
    rule = h.bit_hyper_rule(examples, 224, 224)
    assert rule.schedule == Schedule("staircase", steps, 0, decays)
    assert rule.schedule.rate(0, 0.003) == 0.003
    for number, step in enumerate(decays, start=1):
        assert rule.schedule.rate(step - 1, 0.003) == pytest.approx(0.003 * 0.1 ** (number - 1))
        assert rule.schedule.rate(step, 0.003) == pytest.approx(0.003 * 0.1**number)
    assert (rule.learning_rates, rule.momentum, rule.batch, rule.weight_decay) == ((0.003,), 0.9, 512, 0)
    assert rule.mixup == mixup
    assert rule.grad_clip is None


@pytest.mark.parametrize(
    ("height", "width", "variant", "largest", "sides"),
    [
        (32, 32, "paper", False, (160, 128)),
        (95, 97, "release", False, (160, 128)),  # 9215 < 9216
        (96, 96, "paper", False, (448, 384)),
        (500, 333, "paper", False, (448, 384)),
        (500, 333, "paper", True, (512, 480)),
        (500, 333, "release", False, (512, 480)),
        (32, 32, "paper", True, (160, 128)),
    ],
)
def test_resolution_of_the_hyper_rule(
    height: int, width: int, variant: str, largest: bool, sides: tuple[int, int]
) -> None:
    rule = h.bit_hyper_rule(1000, height, width, variant=variant, largest=largest)
    assert (rule.resize, rule.crop) == sides


@pytest.mark.parametrize(
    ("dataset", "steps", "rates", "dev"),
    [
        ("imagenet", 20_000, (0.003, 0.01, 0.03, 0.06), 0.01),
        ("cifar100", 10_000, (0.001, 0.003, 0.01, 0.03), 0.02),
        ("cifar10", 10_000, (0.001, 0.003, 0.01, 0.03), 0.02),
        ("pets", 500, (0.001, 0.003, 0.01, 0.03), 0.1),
        ("flowers", 500, (0.001, 0.003, 0.01, 0.03), 0.1),
        ("vtab", 2500, (0.01,), None),
        ("vtab:caltech101:1000", 2500, (0.01,), None),
    ],
)
def test_vit_table_4(dataset: str, steps: int, rates: tuple[float, ...], dev: float | None) -> None:
    rule = h.vit_fine_tuning(dataset)
    assert rule.schedule == Schedule("cosine", steps)
    assert rule.learning_rates == rates
    assert (rule.batch, rule.momentum, rule.weight_decay, rule.grad_clip) == (512, 0.9, 0, 1)
    assert (rule.resize, rule.crop, rule.averaging) == (448, 384, None)
    assert rule.dev_fraction == dev


def test_what_contradicts_itself_is_printed_and_noted() -> None:
    assert any(
        "B.1.1 says it was added for ResNets and hybrids only" in note for note in h.vit_fine_tuning("imagenet").notes
    )
    assert any("Section 4.1" in note for note in h.vit_pretraining("vit-b/16", "imagenet").notes)
    hybrid = h.vit_pretraining("r50+vit-l/32", "jft300m")
    assert hybrid.learning_rate == 2e-4 != h.vit_pretraining("vit-l/32", "jft300m").learning_rate
    assert any("ViT counterpart has 6e-4" in note for note in hybrid.notes)
    assert any("150, 300 and 450" in note for note in h.bit_hyper_rule(1000, 32, 32).notes)


def test_released_fine_tuning() -> None:
    rule = h.vit_fine_tuning("cifar100", model="vit-b/16", variant="release")
    assert (rule.learning_rates, rule.schedule.warmup) == ((0.03,), 500)
    assert h.vit_fine_tuning("cifar10", model="vit-b/16", variant="release").learning_rates == (0.01,)
    assert h.vit_fine_tuning("cifar10", model="vit-l/16", variant="release").learning_rates == (0.03,)
    with pytest.raises(UserError, match='has no configuration for "pets"'):
        h.vit_fine_tuning("pets", variant="release")


def test_the_best_numbers_of_table_2_have_larger_images() -> None:
    for model, side in (("vit-l/16", 512), ("vit-h/14", 518)):
        rule = h.vit_fine_tuning("imagenet", model=model, best=True)
        assert (rule.crop, rule.resize, rule.averaging) == (side, None, 0.9999)
    for dataset, model in (("imagenet", "vit-b/16"), ("cifar10", "vit-l/16")):
        with pytest.raises(UserError, match="leave best out"):
            h.vit_fine_tuning(dataset, model=model, best=True)


def test_every_row_of_table_3_is_reached_and_has_the_computed_steps() -> None:
    ours = {
        "ViT-B/16": "vit-b/16",
        "ViT-B/32": "vit-b/32",
        "ViT-L/16": "vit-l/16",
        "ViT-L/32": "vit-l/32",
        "ViT-H/14": "vit-h/14",
        "ResNet50x1": "bit-r50x1",
        "ResNet50x2": "bit-r50x2",
        "ResNet101x1": "bit-r101x1",
        "ResNet152x1": "bit-r152x1",
        "ResNet152x2": "bit-r152x2",
        "R50x1+ViT-B/16": "r50+vit-b/16",
        "R50x1+ViT-B/32": "r50+vit-b/32",
        "R50x1+ViT-L/32": "r50+vit-l/32",
        "R50x1+ViT-L/16": "r50+vit-l/16",
    }
    names = {paper: name for name, paper in h.PRETRAINING_SETS.items()}
    rows = paper_table("vit_pretraining")
    assert len(rows) == 26
    for row in rows:
        rule = h.vit_pretraining(ours[row["model"]], names[row["dataset"]], epochs=int(row["epochs"]))
        assert rule.schedule == Schedule(row["lr_decay"], int(row["computed_steps"]), 10_000)
        assert rule.learning_rate == float(row["base_lr"])
        assert (rule.weight_decay, rule.dropout) == (float(row["weight_decay"]), float(row["dropout"]))
        assert (rule.batch, rule.momenta, rule.resolution) == (4096, (0.9, 0.999), 224)
        assert rule.grad_clip == (1.0 if row["dataset"] == "ImageNet" else None)


def test_a_subset_has_fewer_steps() -> None:
    whole = h.vit_pretraining("vit-b/16", "jft300m")
    part = h.vit_pretraining("vit-b/16-drop0.1", "jft300m", images=30_000_000)
    assert part.schedule.steps == round(30_000_000 * 7 / 4096)
    assert part._replace(schedule=whole.schedule) == whole
    with pytest.raises(UserError, match="expected more than 10000 of warm-up"):
        h.vit_pretraining("vit-b/16", "jft300m", images=1_000_000)


def test_bit_upstream() -> None:
    small, large = h.bit_pretraining("imagenet"), h.bit_pretraining("jft300m")
    assert small.learning_rate == pytest.approx(0.48)
    assert (small.epochs, large.epochs, small.schedule.warmup) == (90, 40, 5000)
    epoch = 1_281_167 / 4096
    assert small.schedule.boundaries == (round(30 * epoch), round(60 * epoch), round(80 * epoch))
    assert len(large.schedule.boundaries) == 4
    assert h.bit_pretraining("imagenet", batch=256).learning_rate == pytest.approx(0.03)


def test_schedules_equal_their_formulas() -> None:
    cosine, linear = Schedule("cosine", 1000, 100), Schedule("linear", 1000, 100)
    for step in range(0, 1001, 25):
        progress = max(0.0, (step - 100) / 900)
        ramp = min(1.0, step / 100)
        assert cosine.rate(step, 0.03) == pytest.approx(ramp * 0.015 * (1 + math.cos(math.pi * progress)))
        assert linear.rate(step, 0.03) == pytest.approx(ramp * (1e-5 + (0.03 - 1e-5) * (1 - progress)))
    assert linear.rate(1000, 0.03) == LINEAR_END
    assert linear.rate(5000, 0.03) == LINEAR_END
    assert cosine.rate(1000, 0.03) == pytest.approx(0)
    assert Schedule("cosine", 10).rate(0, 1.0) == 1.0


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: h.bit_hyper_rule(0, 32, 32), "needs images, not 0"),
        (lambda: h.bit_hyper_rule(10, 32, 32, variant="code"), 'variant "code" is unknown'),
        (lambda: h.vit_fine_tuning("cifar-10"), 'is not a data set .*Did you mean "cifar10"'),
        (lambda: h.vit_fine_tuning("digits"), "expected one of imagenet, cifar10, cifar100, pets, flowers, vtab"),
        (lambda: h.vit_pretraining("vit-h/14", "imagenet"), "is not a model that Table 3 trains on imagenet.*ViT-L/16"),
        (lambda: h.vit_pretraining("vit-l/16", "jft300m"), "for 7 or 14 epochs, not None"),
        (lambda: h.vit_pretraining("vit-b/16", "imagenet", epochs=90), "for 300 epochs, not 90"),
        (lambda: h.bit_pretraining("cifar10"), "is not a data set of BiT's pre-training"),
    ],
)
def test_what_no_paper_says_is_refused(call: object, says: str) -> None:
    assert callable(call)
    with pytest.raises(UserError, match=says):
        call()


def test_rules_need_no_torch() -> None:
    code = "import sys, vision_repro.papers.hyper_rules; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
