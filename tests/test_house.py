"""The rules of the house: locked versions, names, layering, light imports, and the verbs of make."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
CODE = ("vision_repro", "experiments", "benchmarks", "tests")
LIGHT = ("config.py", "catalogue.py", "analysis", "figures", "report")
HEAVY = ("torch", "torchvision", "lightning", "timm", "wandb")

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def python_files(*folders: str) -> list[Path]:
    """Every Python file below the named folders of the repository that exist."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


# --- the lock ---


def lock_entries() -> list[tuple[Requirement, list[str]]]:
    """The requirements of the lock, each with its hashes."""
    text = (ROOT / "requirements.lock").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    parts = [re.split(r"\s+--hash=", line) for line in lines]
    return [(Requirement(first), [part.strip() for part in hashes]) for first, *hashes in parts]


def lock_versions() -> dict[str, Version]:
    """The version of every package in the lock."""
    return {entry.name: Version(str(entry.specifier).removeprefix("==")) for entry, _ in lock_entries()}


def test_lock_is_exact_hashed_and_unambiguous() -> None:
    entries = lock_entries()
    assert len({entry.name for entry, _ in entries}) == len(entries) > 50
    for entry, hashes in entries:
        assert re.fullmatch(r"==[\w.+!]+", str(entry.specifier)), entry
        assert hashes, entry
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", item) for item in hashes), entry


def test_lock_covers_the_declared_dependencies() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    versions = lock_versions()
    for text in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
        wanted = Requirement(text)
        assert wanted.specifier.contains(versions[wanted.name.lower()], prereleases=True), text


def test_lock_keeps_out_compromised_and_faulty_lightning() -> None:
    # 2.6.2 and 2.6.3 carried malicious code; 2.4.0 to 2.6.0 gave every run the same augmentation
    versions = lock_versions()
    assert versions["lightning"] >= Version("2.6.6")
    assert versions["pytorch-lightning"] >= Version("2.6.6")
    assert "ffcv" not in versions


def test_torch_and_torchvision_are_a_pair() -> None:
    versions = lock_versions()
    pairs = {"2.14.1": "0.29.1", "2.15.0": "0.29.2"}
    assert pairs[str(versions["torch"])] == str(versions["torchvision"])


def test_installed_versions_are_those_of_the_lock() -> None:
    from importlib.metadata import version

    versions = lock_versions()
    for name in ("lightning", "torch", "torchvision", "timm", "wandb", "numpy"):
        assert Version(version(name)).public == versions[name].public, name


@pytest.mark.parametrize(
    "name", ["requirements.lock", "Makefile", ".ci/run", ".github/workflows/ci.yml", "pyproject.toml"]
)
def test_no_registry_address_is_written_down(name: str) -> None:
    text = (ROOT / name).read_text()
    assert not re.search(r"://|(?<!no-emit-)index-url|find-links|trusted-host|^registry *=", text, re.MULTILINE)


# --- names and layers ---


def test_no_file_is_a_drawer() -> None:
    drawers = {"utils.py", "helpers.py", "common.py"}
    assert [path for path in python_files(*CODE) if path.name in drawers] == []


SUB_ROOMS = {"analysis/judges", "models/layers", "models/weights"}


def test_no_room_is_deeper_than_the_named_sub_rooms() -> None:
    places = [path.relative_to(ROOT / "vision_repro").parent for path in python_files("vision_repro")]
    assert {place.as_posix() for place in places if len(place.parts) > 1} == SUB_ROOMS


def imported_modules(path: Path) -> set[str]:
    """Absolute names of all that a file imports, wherever in it; a relative import counts from its own package."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = path.relative_to(ROOT).parts[: -node.level] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", python_files("experiments"), ids=lambda path: path.stem)
def test_experiments_do_not_import_each_other(path: Path) -> None:
    others = {name for name in imported_modules(path) if name.split(".")[0] == "experiments"} - {"experiments"}
    assert others == set()


def test_library_does_not_import_experiments() -> None:
    wrong = {
        path
        for path in python_files("vision_repro")
        if any(name.startswith("experiments") for name in imported_modules(path))
    }
    assert wrong == set()


def imports_by_name(path: Path) -> set[str]:
    """What a file uses, by whatever name it is called, to import a module whose name is only known at run time."""
    tools = {"import_module", "__import__", "pkgutil", "run_module", "SourceFileLoader", "spec_from_file_location"}
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Name | ast.Attribute):
            found |= {node.id if isinstance(node, ast.Name) else node.attr} & tools
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {word for alias in node.names for word in alias.name.split(".")} & tools
            found |= {node.module or ""} & tools if isinstance(node, ast.ImportFrom) else set()
    return found


def test_only_the_catalogue_imports_by_name() -> None:
    catalogue = ROOT / "vision_repro" / "catalogue.py"
    found = {path: tools for path in python_files("vision_repro") if (tools := imports_by_name(path))}
    assert found == {catalogue: {"import_module", "pkgutil"}}
    assert {name for name in imported_modules(catalogue) if name.startswith("vision_repro.")} == {
        "vision_repro.config",
        "vision_repro.config.UserError",
        "vision_repro.config.nearest",
    }


def test_imports_by_name_are_seen_however_they_are_written(tmp_path: Path) -> None:
    for text in (
        "from importlib import import_module as load",
        "import importlib\nimportlib.import_module('x')",
        "import pkgutil",
        "from pkgutil import iter_modules",
        "__import__('x')",
    ):
        (tmp_path / "x.py").write_text(text)
        assert imports_by_name(tmp_path / "x.py"), text


def test_folders_of_tests_mirror_the_package() -> None:
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and any(path.rglob("*.py"))}
    places = {path.name for path in (ROOT / "vision_repro").iterdir() if path.is_dir()} | {"experiments", "benchmarks"}
    assert folders - places == set()


def light_modules() -> list[str]:
    """Modules that have to start without torch."""
    paths = [ROOT / "vision_repro" / name for name in LIGHT]
    files = [file for path in paths for file in ([path] if path.is_file() else sorted(path.rglob("*.py")))]
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]
    return [name for name in names if not name.endswith("__main__")]


def test_light_modules_import_nothing_heavy() -> None:
    names = light_modules()
    assert "vision_repro.config" in names
    script = (
        "import importlib, sys\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        f"    heavy = [module for module in {HEAVY!r} if module in sys.modules]\n"
        "    assert not heavy, f'{name} imports {heavy}'\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --- the verbs ---


def make(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs make in `folder`, without what an outer make, which may run this test, hands down."""
    known = (
        "MAKE",
        "MFLAGS",
        "PRESET",
        "DEVICES",
        "SEEDS",
        "DATA_ROOT",
        "NODES",
        "JOBS",
        "ARGS",
        "FILE",
        "EXP",
        "PYTHON",
        "MODEL",
        "IMAGE",
        "DATA",
        "AUG",
        "WEIGHTS",
    )
    clean = {key: value for key, value in os.environ.items() if not key.startswith(known)}
    return subprocess.run(
        ["make", *words], cwd=folder, env=clean | variables, capture_output=True, text=True, timeout=60
    )


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A repository with one experiment that prints its arguments and exits with 99, and an environment that stands."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements.lock").write_text("toy\n")
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "__init__.py").touch()
    (tmp_path / "experiments" / "toy_one.py").write_text("import sys\nprint(sys.argv[1:])\nsys.exit(99)\n")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    stamp = re.search(r"\.venv/\.ready-[\w-]+", make(tmp_path, "-n", "--debug=b", "setup").stdout)
    assert stamp
    (tmp_path / stamp.group()).touch()
    return tmp_path


@needs_make
def test_make_lists_the_verbs() -> None:
    done = make(ROOT)
    assert done.returncode == 0
    for verb in (
        "setup",
        "check",
        "test",
        "bench",
        "exp-<name>",
        "sweep",
        "sweep-file",
        "report",
        "tables",
        "explain",
        "data-check",
    ):
        assert re.search(rf"^make {verb}\b", done.stdout, re.MULTILINE) or f"make {verb} " in done.stdout, verb
    for path in python_files("experiments"):
        if not path.stem.startswith("_"):
            assert path.stem.replace("_", "-") in done.stdout


@needs_make
def test_make_sets_up_once(toy: Path) -> None:
    done = make(toy, "setup", "PYTHON=false")
    assert done.returncode == 0, done.stderr


@needs_make
def test_make_sets_up_again_for_another_lock_and_after_a_failure(toy: Path) -> None:
    (toy / "requirements.lock").write_text("toy\nother\n")
    stamps = set((toy / ".venv").glob(".ready-*"))
    for _ in range(2):
        assert make(toy, "setup", "PYTHON=false").returncode == 2
    assert set((toy / ".venv").glob(".ready-*")) == stamps


@needs_make
def test_make_passes_on_what_is_given_and_nothing_else(toy: Path) -> None:
    assert "[]\n" in make(toy, "exp-toy-one", "SEEDS=", "PRESET=").stdout
    words = [
        "PRESET=smoke",
        "SEEDS=0",
        "DEVICES=2",
        "NODES=1",
        "JOBS=0",
        "DATA_ROOT=a b's",
        "ARGS=--lr=0.1 --model='x y'",
    ]
    done = make(toy, "exp-toy-one", *words)
    expected = ["--preset=smoke", "--devices=2", "--seeds=0", "--data_root=a b's", "--num_nodes=1", "--jobs=0"]
    assert ast.literal_eval(done.stdout.splitlines()[0]) == [*expected, "--lr=0.1", "--model=x y"]


@needs_make
def test_make_shows_the_exit_code_of_the_program(toy: Path) -> None:
    done = make(toy, "exp-toy-one")
    assert done.returncode == 2
    assert "Error 99" in done.stderr


@needs_make
def test_make_refuses_an_unknown_experiment_before_setting_up(toy: Path) -> None:
    shutil.rmtree(toy / ".venv")
    done = make(toy, "exp-toy-two")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == 'There is no experiment "toy-two"; known: toy-one.'
    assert not (toy / ".venv").exists()


@needs_make
def test_make_sweep_asks_for_its_file(toy: Path) -> None:
    done = make(toy, "sweep")
    assert done.returncode == 2
    assert "sweep needs FILE=" in done.stderr


@needs_make
def test_make_sweep_file_prints_what_the_program_prints_and_nothing_else(toy: Path) -> None:
    folder = toy / "vision_repro" / "search"
    folder.mkdir(parents=True)
    (folder / "sweep_file.py").write_text("import sys\nprint(sys.argv[1:])\n")
    words = ["EXP=toy one's", "PRESET=two; 'cores'", "ARGS=--help"]
    done = make(toy, "sweep-file", *words)
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
    assert ast.literal_eval(done.stdout) == ["toy one's", "--preset=two; 'cores'", "--help"]
    assert ast.literal_eval(make(toy, "sweep-file", "EXP=toy-one", PRESET="").stdout) == ["toy-one"]


@needs_make
def test_make_sweep_file_asks_for_its_experiment(toy: Path) -> None:
    done = make(toy, "sweep-file", "PRESET=gpu")
    assert done.returncode == 2
    assert "sweep-file needs EXP=<experiment>" in done.stderr


def test_files_for_other_programs_parse() -> None:
    from vision_repro import __version__

    for name in (".pre-commit-config.yaml", ".github/workflows/ci.yml", "CITATION.cff"):
        assert yaml.safe_load((ROOT / name).read_text()), name
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == __version__
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
