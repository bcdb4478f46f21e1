"""The grammar of augmentation: what is written is what is done, and what cannot be done is refused in words."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision_repro.augmentation.crops import POLICIES
from vision_repro.augmentation.policy import NONE, PARTS, Mixing, Policy, RandAugment, parse
from vision_repro.config import UserError


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("none", Policy()),
        ("flip", Policy(flip=True)),
        ("crop-flip", Policy(crop="pad", flip=True)),
        ("crop+flip", Policy(crop="pad", flip=True)),
        ("inception", Policy(crop="inception", flip=True)),
        ("vgg", Policy(crop="vgg", flip=True)),
        ("resize-crop+mixup0.1", Policy(crop="resize-crop", flip=True, mixup=Mixing(0.1))),
        ("rotate15+lens0.1", Policy(rotate=15, lens=0.1)),
        ("randaugment2x9std0.5", Policy(randaugment=RandAugment(2, 9, 0.5))),
        ("mixup0.2+cutmix-each1", Policy(mixup=Mixing(0.2), cutmix=Mixing(1, each=True))),
        ("mixup0+rotate0+stretch1+erase0+randaugment0x5", Policy()),
        ("mixup1e-1", Policy(mixup=Mixing(0.1))),
    ],
)
def test_parse(text: str, policy: Policy) -> None:
    assert parse(text) == policy


def test_the_first_names_stay_as_they_are_written() -> None:
    for text in ("none", "flip", "crop-flip", "inception"):
        assert str(parse(text)) == text


def test_every_part_has_an_example_that_sets_something() -> None:
    for name, part in PARTS.items():
        assert part.example.startswith(name)
        assert parse(part.example) != NONE


numbers = {"translate": 1.0, "rotate": 180.0, "shear": 60.0, "lens": 0.15, "jitter": 1.0, "erase": 1.0}
mixings = st.none() | st.builds(Mixing, st.floats(0.01, 100), st.booleans())
crops = st.sampled_from(
    [(crop, flip) for crop in ("", "pad") for flip in (False, True)] + [(crop, True) for crop in POLICIES]
)
policies = st.builds(
    lambda crop, **parts: Policy(*crop, **parts),
    crops,
    stretch=st.floats(1, 4),
    randaugment=st.none() | st.builds(RandAugment, st.integers(1, 14), st.floats(0, 10), st.floats(0, 10)),
    mixup=mixings,
    cutmix=mixings,
    **{name: st.just(0.0) | st.floats(0, high) for name, high in numbers.items()},
)


@given(policies)
def test_writing_and_reading_is_the_identity(policy: Policy) -> None:
    assert parse(str(policy)) == policy
    assert "," not in str(policy)


@given(policies)
def test_the_order_of_the_parts_means_nothing(policy: Policy) -> None:
    backwards = "+".join(reversed(str(policy).split("+")))
    assert parse(backwards) == policy


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("flop", r'^--augmentation="flop" is unknown: .*Did you mean "flip"\?$'),
        ("crop+erse0.2", r'"crop\+erse0.2": "erse0.2" is unknown.*Did you mean "erase"\?$'),
        ("cutmix-eech1", 'Did you mean "cutmix-each"'),
        ("rotate", "expected degrees from 0 to 180, as in rotate15"),
        ("rotate181", "expected degrees from 0 to 180"),
        ("rotate-5", "expected degrees from 0 to 180"),
        ("flip0.5", "expected no number"),
        ("erase25", "a probability from 0 to 1, as in erase0.25"),
        ("stretch0.5", "a factor from 1 to 4"),
        ("lens0.2", "a fraction from 0 to 0.15"),
        ("mixup0.001", "0 .off. or from 0.01 to 100"),
        ("randaugment2", "as in randaugment2x10"),
        ("randaugment(2", "as in randaugment2x10"),
        ("randaugment2x11", "magnitude .0 to 10."),
        ("inception+flip", 'says twice what to do about flip: leave out "flip"'),
        ("crop+inception", "says twice what to do about crop"),
        ("erase0.2+erase0.5", "says twice what to do about erase"),
        ("mixup0.2+mixup-each1", "says twice what to do about mixup"),
        ("none+flip", "does not go with other parts"),
        ("", 'augmentation="" is unknown'),
        ("flip+", '"" is unknown'),
        ("Flip", '"Flip" is unknown'),
        ("rotatenan", "is unknown"),
    ],
)
def test_what_cannot_be_done_is_refused(text: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        parse(text)


def test_what_the_workers_have_done_is_not_done_again() -> None:
    left: Any = parse("inception+randaugment2x10+mixup0.2").after_cropping()
    assert str(left) == "randaugment2x10+mixup0.2"
    for crop in POLICIES:
        assert parse(crop).flip
        assert str(parse(crop)) == crop
        assert str(parse(crop).after_cropping()) == "none"
    assert [crop for crop in POLICIES if parse(crop).needs_whole_images] == ["vgg", "resize-crop"]
