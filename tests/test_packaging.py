"""The source distribution builds into a wheel, offline, and the wheel runs with the core dependencies alone (slow)."""

import importlib.metadata
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
pytestmark = [pytest.mark.slow, pytest.mark.compile]


def run(*command: str | Path, cwd: Path = ROOT, **environment: str) -> str:
    variables = {**os.environ, "PYTHONPATH": "", "PIP_DISABLE_PIP_VERSION_CHECK": "1", **environment}
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def name_of(requirement: str) -> str:
    """Return the name of the package that a requirement names."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def applies(requirement: str) -> bool:
    """Whether a requirement is needed here and belongs to no extra."""
    marker = requirement.partition(";")[2]
    return "extra" not in marker and not re.search(r"python_version < '3\.1[01]'|Windows|Darwin", marker)


def core_distributions() -> dict[str, importlib.metadata.Distribution]:
    """Return the installed distributions that the core dependencies of usvs need, by name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    waiting = [name_of(requirement) for requirement in project["dependencies"] if applies(requirement)]
    found: dict[str, importlib.metadata.Distribution] = {}
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        try:
            found[name] = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # a CUDA library of a torch that was built without CUDA
        waiting += [name_of(other) for other in found[name].requires or [] if applies(other)]
    return found


def link_distributions(target: Path) -> None:
    """Link everything that the core dependencies installed into a folder of its own."""
    for distribution in core_distributions().values():
        files = distribution.files
        assert files
        for top in {file.parts[0] for file in files} - {"..", "__pycache__"}:
            if not (target / top).exists():
                (target / top).symlink_to(Path(str(distribution.locate_file(top))))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("pybind11")
    folder = tmp_path_factory.mktemp("sdist")
    program = f"from setuptools.build_meta import build_sdist; build_sdist({str(folder)!r})"
    clean = tmp_path_factory.mktemp("clone") / "usvs"  # what is tracked or new, without what was built
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    for name in listed:
        if (ROOT / name).is_file():
            (clean / name).parent.mkdir(parents=True, exist_ok=True)
            (clean / name).write_bytes((ROOT / name).read_bytes())
    run(sys.executable, "-c", program, cwd=clean)
    (found,) = folder.glob("*.tar.gz")
    return found


def test_the_source_distribution_holds_what_the_build_needs(sdist: Path):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tracked = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "csrc", "usvs").splitlines()
    needed = {name for name in tracked if (ROOT / name).is_file()}
    assert not needed - names
    assert {"CMakeLists.txt", "setup.py", "LICENSE", "examples/kernels_only.py"} <= names
    assert not [name for name in names if name.endswith(".so") or name.startswith(("benchmarks", "tests/__init__"))]


def test_a_wheel_from_the_source_distribution_runs_with_the_core_dependencies(sdist: Path, tmp_path: Path):
    wheels, site = tmp_path / "wheels", tmp_path / "site"
    offline = ("--no-deps", "--no-index", "--quiet")
    pip = (sys.executable, "-m", "pip")
    builds = {"USVS_CUDA": "OFF", "USVS_SIMD": "OFF", "MAX_JOBS": os.environ.get("MAX_JOBS", "2")}
    tools = str(Path(sys.executable).parent)
    path = os.pathsep.join([tools, os.environ["PATH"]])
    run(*pip, "wheel", *offline, "--no-build-isolation", "--wheel-dir", wheels, sdist, PATH=path, **builds)
    (wheel,) = wheels.glob("usvs-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        libraries = [name for name in archive.namelist() if name.endswith(".so")]
    assert len(libraries) == 2 and "usvs/libusvs_ops.so" in libraries
    run(*pip, "install", *offline, "--target", site, wheel)
    link_distributions(site)
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    output = run(python, ROOT / "examples" / "kernels_only.py", cwd=tmp_path, PYTHONPATH=str(site), OMP_NUM_THREADS="1")
    assert "gradient of the anchors (64, 128)" in output
    program = "import usvs.ops; print(usvs.__file__, usvs.ops.build_info()['cuda_architectures'])"
    assert run(python, "-c", program, cwd=tmp_path, PYTHONPATH=str(site)).split() == [
        str(site / "usvs/__init__.py"),
        "[]",
    ]
    for extra in ("av", "cv2", "pyarrow", "sklearn", "scipy", "matplotlib"):
        absent = f"import importlib.util; print(importlib.util.find_spec({extra!r}))"
        assert run(python, "-c", absent, cwd=tmp_path, PYTHONPATH=str(site)).strip() == "None"
