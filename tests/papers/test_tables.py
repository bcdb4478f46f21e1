"""The paper's tables that ship with the package."""

import pytest

from vision_repro.config import UserError
from vision_repro.papers.tables import paper_table, paper_tables

FROM_MEMORY = {"devices", "googlenet_devices"}
"""Tables with rows that were not found in print again; whoever shows such a row says so."""


def test_every_table_says_its_source_and_how_sure_it_is() -> None:
    assert {"vit_table5", "devices"} <= set(paper_tables())
    for name in paper_tables():
        rows = paper_table(name)
        assert rows
        sure = {"verified", "quoted", "computed", "inferred"} | ({"memory"} if name in FROM_MEMORY else set())
        assert all(row["source"] and row["confidence"] in sure for row in rows), name


def test_vit_table_5_keeps_the_printed_digits() -> None:
    imagenet = {(row["pretrain_data"], row["model"]): row["imagenet"] for row in paper_table("vit_table5")}
    assert len(imagenet) == 14
    assert imagenet["ImageNet", "ViT-B/16"] == "77.91"
    assert imagenet["JFT-300M", "ViT-H/14"] == "88.04"
    assert ("ImageNet", "ViT-H/14") not in imagenet
    # section 4.3: on ImageNet L is below B; with JFT it is above
    for patch in ("16", "32"):
        assert imagenet["ImageNet", f"ViT-L/{patch}"] < imagenet["ImageNet", f"ViT-B/{patch}"]
        assert imagenet["JFT-300M", f"ViT-L/{patch}"] > imagenet["JFT-300M", f"ViT-B/{patch}"]


def test_an_unknown_table_is_named_with_the_nearest() -> None:
    with pytest.raises(UserError, match='Did you mean "vit_table5"'):
        paper_table("vit_tabel5")
