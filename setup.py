"""Builds libusvs_ops.so (torch's ops) and usvs._C (build information) with CMake; the rest is in pyproject.toml.

Read from the environment: USVS_CUDA (AUTO, ON or OFF), USVS_CUDA_ARCHITECTURES (as CMake spells them), USVS_SIMD (OFF:
the portable CPU kernels alone), USVS_EMULATE_AVX512 (ON: for tests, csrc/README.md), USVS_BUILD_TYPE,
USVS_BUILD_DIR, MAX_JOBS.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
PASSED_ON = ("USVS_CUDA", "USVS_CUDA_ARCHITECTURES", "USVS_SIMD", "USVS_EMULATE_AVX512")


class CMakeExtension(Extension):
    """A library that CMake builds: its file in the package, as a dotted name, and CMake's target."""

    def __init__(self, name: str, target: str) -> None:
        super().__init__(name, sources=[])
        self.target = target


class CMakeBuild(build_ext):
    """Configures and builds with CMake, into the folder where setuptools looks for the libraries."""

    def get_ext_filename(self, fullname: str) -> str:
        """Return a library's path in the package; only a Python module's name carries the Python version."""
        if fullname.split(".")[-1].startswith("lib"):
            return fullname.replace(".", os.sep) + ".so"
        return super().get_ext_filename(fullname)

    def build_extension(self, ext: CMakeExtension) -> None:
        """Build one library."""
        output = Path(self.get_ext_fullpath(ext.name)).resolve().parent
        build = Path(os.environ.get("USVS_BUILD_DIR", ROOT / "build" / f"cmake-{sys.implementation.cache_tag}"))
        build.mkdir(parents=True, exist_ok=True)
        cmake = _find_cmake()
        _run([cmake, "-S", str(ROOT), "-B", str(build), *_configure_arguments(output)], "configure")
        jobs = os.environ.get("MAX_JOBS", str(os.cpu_count() or 1))
        _run([cmake, "--build", str(build), "--target", ext.target, "--parallel", jobs], "compile")


def _run(command: list[str], task: str) -> None:
    if subprocess.call(command) != 0:
        sys.exit(f"usvs: CMake could not {task} the kernels; see its messages above")


def _find_cmake() -> str:
    beside_python = Path(sys.executable).parent / "cmake"
    cmake = str(beside_python) if beside_python.exists() else shutil.which("cmake")
    if cmake is None:
        sys.exit("usvs: CMake is missing; install it with: pip install cmake ninja pybind11")
    return cmake


def _configure_arguments(output: Path) -> list[str]:
    try:
        import pybind11
        import torch
    except ImportError as error:
        sys.exit(
            f"usvs: building needs {error.name}, which is missing here; run: pip install torch pybind11 ninja cmake"
            " && pip install --no-build-isolation -e ."
        )
    arguments = [
        "-G",
        "Ninja",
        f"-DCMAKE_BUILD_TYPE={os.environ.get('USVS_BUILD_TYPE', 'Release')}",
        f"-DPython_EXECUTABLE={sys.executable}",
        f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={output}",
        f"-DUSVS_TORCH_DIR={Path(torch.__file__).parent}",
        f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
    ]
    ninja = Path(sys.executable).parent / "ninja"
    if ninja.exists():
        arguments.append(f"-DCMAKE_MAKE_PROGRAM={ninja}")
    return arguments + [f"-D{name}={os.environ[name]}" for name in PASSED_ON if name in os.environ]


setup(
    ext_modules=[CMakeExtension("usvs.libusvs_ops", "usvs_ops"), CMakeExtension("usvs._C", "_C")],
    cmdclass={"build_ext": CMakeBuild},
)
