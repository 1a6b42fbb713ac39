"""Imports only go down: every import and include line is compared with the order of the packages."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Lowest first; a package may import from itself and from any level below its own.
LEVELS = [
    {"errors", "config", "utils", "_C"},
    {"ops"},
    {"models", "audio", "losses", "evaluation"},
    {"media"},
    {"archive"},
    {"store", "narration"},
    {"data", "phantom"},
    {"training"},
    {"tasks"},
    {"inference"},
    {"experiments"},
    {"report", "doctor"},
    {"cli"},
]
LEVEL_OF = {package: level for level, packages in enumerate(LEVELS) for package in packages}
FRONT_DOORS = {"__init__", "__main__"}  # usvs/__init__.py re-exports lazily, usvs/__main__.py calls the command

# csrc: which folder may include which; only bindings may see torch.
INCLUDES = {
    "": {""},
    "kernels": {"", "kernels"},
    "cuda": {"", "kernels", "cuda"},
    "cpu": {"", "cpu"},
    "bindings": {"", "cpu", "bindings"},
    "python": {"bindings", "python"},
    "example": {"", "example"},
}
# The libraries that a folder of csrc may include.
LIBRARIES = {"bindings": ("torch/",), "python": ("pybind11/",)}
ALLOWED_BESIDE: dict[str, set[str]] = {}


def imported_packages(file: Path) -> set[str]:
    packages = set()
    for node in ast.walk(ast.parse(file.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names = [node.module or ""]
            if node.module == "usvs":
                names = [f"usvs.{alias.name}" for alias in node.names if alias.name != "__version__"]
        packages |= {name.split(".")[1] for name in names if name.startswith("usvs.")}
    return packages


def test_every_package_has_a_level():
    packages = {
        path.stem for path in (ROOT / "usvs").iterdir() if path.suffix in {"", ".py"} and path.stem != "__pycache__"
    }
    assert packages - FRONT_DOORS <= set(LEVEL_OF), f"without a level: {packages - FRONT_DOORS - set(LEVEL_OF)}"


@pytest.mark.parametrize("file", sorted((ROOT / "usvs").rglob("*.py")), ids=lambda f: str(f.relative_to(ROOT)))
def test_python_imports_go_down(file: Path):
    package = file.relative_to(ROOT / "usvs").parts[0].removesuffix(".py")
    if package in FRONT_DOORS:
        return
    for other in imported_packages(file):
        beside = LEVEL_OF[other] == LEVEL_OF[package] and other != package
        allowed = LEVEL_OF[package] == 0 or other in ALLOWED_BESIDE.get(package, set())
        assert LEVEL_OF[other] <= LEVEL_OF[package], f"{file.relative_to(ROOT)} imports usvs.{other}, which is above it"
        assert not beside or allowed, f"{file.relative_to(ROOT)} imports usvs.{other}, which is beside it"


@pytest.mark.parametrize("file", sorted((ROOT / "csrc").rglob("*.*")), ids=lambda f: str(f.relative_to(ROOT)))
def test_includes_go_down(file: Path):
    if file.suffix not in {".h", ".cpp", ".cu", ".cuh"}:
        return
    folder = file.relative_to(ROOT / "csrc").parent.as_posix().removeprefix(".")
    for line in file.read_text().splitlines():
        if line.startswith("#include"):
            name = line.split(None, 1)[1].strip().strip('<>"')
            is_library = name.startswith(("torch/", "ATen/", "c10/", "pybind11/"))
            assert not is_library or name.startswith(LIBRARIES.get(folder, ())), f"{file}: may not include {name}"
            target = ROOT / "csrc" / name
            if '"' in line and target.exists():
                other = target.relative_to(ROOT / "csrc").parent.as_posix().removeprefix(".")
                assert other in INCLUDES[folder], f"{file}: may not include {name}"
