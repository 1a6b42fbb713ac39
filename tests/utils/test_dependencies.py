"""A missing optional package is one clear line, from Python and from the command line."""

import subprocess
import sys
from pathlib import Path

import pytest

from usvs.utils.dependencies import EXTRA_OF_MODULE, PACKAGE_OF_MODULE, is_missing_dependency, missing_dependency

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("av", "package 'av' is missing: pip install 'usvs[train]'"),
        ("av.video.frame", "package 'av' is missing: pip install 'usvs[train]'"),
        ("cv2", "package 'opencv-python-headless' is missing: pip install 'usvs[train]'"),
        ("nvidia.dali.fn", "package 'nvidia-dali' is missing: pip install 'usvs[dali]'"),
        ("nvidia", "package 'nvidia-dali' is missing: pip install 'usvs[dali]'"),
    ],
)
def test_the_extra_that_installs_a_module_is_named(module: str, message: str) -> None:
    error = ModuleNotFoundError(f"No module named '{module}'", name=module)
    assert is_missing_dependency(error)
    assert str(missing_dependency(error)) == message


def test_other_modules_and_errors_are_not_claimed() -> None:
    assert not is_missing_dependency(ModuleNotFoundError("No module named 'avx'", name="avx"))
    assert not is_missing_dependency(ImportError("av", name="av"))
    broken = missing_dependency(OSError("libcuda.so: no such file"), "nvidia.dali")
    assert str(broken) == (
        "package 'nvidia-dali' cannot be imported (libcuda.so: no such file): pip install 'usvs[dali]'"
    )


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib came in Python 3.11")
def test_every_extra_of_the_table_is_in_pyproject_and_installs_the_package() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    indirect = {"joblib"}  # required by scikit-learn
    for module, extra in EXTRA_OF_MODULE.items():
        if module in indirect:
            continue
        package = PACKAGE_OF_MODULE.get(module, module)
        assert any(entry.startswith(package) for entry in extras[extra]), f"{package} is not in usvs[{extra}]"


@pytest.mark.slow
def test_the_command_line_ends_with_one_line(tmp_path: Path) -> None:
    code = (
        f"import sys; sys.modules['cv2'] = None; from usvs.cli import main; main(['phantom', {str(tmp_path / 'a')!r}])"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 4
    assert ran.stderr == "usvs: package 'opencv-python-headless' is missing: pip install 'usvs[train]'\n"


@pytest.mark.slow
def test_a_public_name_whose_package_is_missing_says_so() -> None:
    code = (
        "import sys; sys.modules['av'] = None; import usvs\n"
        "from usvs.errors import MissingDependencyError\n"
        "try: usvs.index_archive\n"
        "except MissingDependencyError as error: print(error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout == "package 'av' is missing: pip install 'usvs[train]'\n"
