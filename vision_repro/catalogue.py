"""The one place that finds experiments, architectures, probes and data sets by name.

A new file in one of their folders is found without being registered anywhere. All other modules of the package import
what they need by an import statement, which the layer contracts can read. This module lies below all others, so it
knows the folders only by their names, and it raises no error about a folder's content but "there is none of this name".
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType, ModuleType

from vision_repro.config import UserError, nearest

PROBE_FUNCTIONS = ("measure", "measure_features", "measure_task", "measure_start", "measure_meter")
"""A file of `probes/` with one of these functions is a probe; `probes/dispatch.py` describes the arguments of each."""


@cache
def architectures() -> tuple[ModuleType, ...]:
    """Returns the files of `models/` that define a `PATTERN`, by name; loads torch and timm."""
    found = _modules("vision_repro.models")
    return tuple(module for module in found if hasattr(module, "PATTERN"))


@cache
def data_sets() -> tuple[ModuleType, ...]:
    """Returns the files of `datasets/` that define `load` or `listing`, by name."""
    found = _modules("vision_repro.datasets")
    return tuple(module for module in found if hasattr(module, "load") or hasattr(module, "listing"))


@cache
def probes() -> Mapping[str, ModuleType]:
    """Returns the files of `probes/` that define one of `PROBE_FUNCTIONS`, by name; loads torch."""
    names = _names("vision_repro.probes")
    modules = {name: importlib.import_module(f"vision_repro.probes.{name}") for name in names}
    return MappingProxyType({name: module for name, module in modules.items() if _is_probe(module)})


def experiments(package: str = "experiments") -> list[str]:
    """Returns the names of all experiments, sorted, without importing them.

    Raises:
        UserError: if there is no such folder where Python looks for modules.
    """
    try:
        return [name for name in _names(package) if not name.startswith("_")]
    except (ImportError, AttributeError):
        raise UserError(f"There is no folder {package} here: start in the repository.") from None


def experiment(name: str, package: str = "experiments") -> ModuleType:
    """Returns the module of an experiment. An error in its file is raised as it is.

    Raises:
        UserError: if there is no experiment of this name.
    """
    known = experiments(package)
    if name not in known:
        raise UserError(f'There is no experiment "{name}": expected one of {", ".join(known)}.{nearest(name, known)}')
    return importlib.import_module(f"{package}.{name}")


def _is_probe(module: ModuleType) -> bool:
    return any(hasattr(module, function) for function in PROBE_FUNCTIONS)


def _modules(package: str) -> list[ModuleType]:
    return [importlib.import_module(f"{package}.{name}") for name in _names(package)]


def _names(package: str) -> list[str]:
    """Returns the names of the files of a package, sorted; those of its folders are left out."""
    folder = importlib.import_module(package).__path__
    return sorted(item.name for item in pkgutil.iter_modules(folder) if not item.ispkg)
