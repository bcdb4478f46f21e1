"""The catalogue: what is found is what is in the folders, in order, and nothing else."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

from vision_repro import catalogue
from vision_repro.config import UserError

ROOT = Path(__file__).resolve().parents[1]


def files(folder: str) -> list[str]:
    return sorted(path.stem for path in (ROOT / folder).glob("*.py") if not path.stem.startswith("_"))


def short(modules: tuple[ModuleType, ...]) -> list[str]:
    return [module.__name__.rpartition(".")[2] for module in modules]


def test_architectures_are_the_files_with_a_grammar() -> None:
    texts = {name: (ROOT / f"vision_repro/models/{name}.py").read_text() for name in files("vision_repro/models")}
    found = short(catalogue.architectures())
    assert found == [name for name, text in texts.items() if "\nPATTERN = " in text]
    assert {"vit", "bit", "hybrid", "resnet", "timm_model"} <= set(found)


def test_data_sets_are_the_files_that_read_one() -> None:
    found = short(catalogue.data_sets())
    assert found == sorted(found)
    assert {"cifar", "digits", "imagenet", "vtab"} <= set(found)
    assert not {"fetch", "conventions", "wordnet", "ilsvrc"} & set(found)


def test_probes_are_by_name_and_nobody_can_change_them() -> None:
    found = catalogue.probes()
    assert {"attention_distance", "knn", "training_seconds"} <= set(found)
    assert not {"dispatch", "images", "features", "ridge", "few_shot"} & set(found)
    assert all(module.__name__ == f"vision_repro.probes.{name}" for name, module in found.items())
    with pytest.raises(TypeError):
        found["knn"] = found["linear"]  # type: ignore[index]


def test_what_is_found_once_is_not_searched_again() -> None:
    assert catalogue.architectures() is catalogue.architectures()
    assert catalogue.data_sets() is catalogue.data_sets()
    assert catalogue.probes() is catalogue.probes()


def test_experiments_are_the_files_of_their_folder() -> None:
    assert catalogue.experiments() == files("experiments")
    module = catalogue.experiment("data_scaling")
    assert module.EXPERIMENT.name == "data_scaling"
    assert catalogue.experiment("data_scaling") is module


@pytest.mark.parametrize("name", ["data_scalign", "data_scaling.x", "_hidden", "", "../config", "config"])
def test_an_unknown_experiment_is_one_sentence_with_all_names(name: str) -> None:
    with pytest.raises(UserError) as caught:
        catalogue.experiment(name)
    assert str(caught.value).startswith(f'There is no experiment "{name}": expected one of attention_distance, ')
    assert ('Did you mean "data_scaling"' in str(caught.value)) == name.startswith("data")


def test_no_folder_of_experiments_is_one_sentence() -> None:
    for package in ("no_such_package", "zipfile.no_such_package", "ast"):  # missing, inside no package, a plain module
        with pytest.raises(UserError, match=f"There is no folder {package} here: start in the repository"):
            catalogue.experiments(package)


def test_a_broken_experiment_is_listed_and_raises_its_own_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "broken_experiments"
    (folder / "inner").mkdir(parents=True)
    for name, text in {"__init__": "", "good": "EXPERIMENT = 1", "bad": "import no_such_module", "_own": ""}.items():
        (folder / f"{name}.py").write_text(f"{text}\n")
    (folder / "inner" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    assert catalogue.experiments("broken_experiments") == ["bad", "good"]
    assert catalogue.experiment("good", "broken_experiments").EXPERIMENT == 1
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        catalogue.experiment("bad", "broken_experiments")
    for name in [name for name in sys.modules if name.startswith("broken_experiments")]:
        monkeypatch.delitem(sys.modules, name)
