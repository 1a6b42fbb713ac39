"""Packages: those that the core needs, in the versions that it needs, and the optional ones with their purpose."""

import platform
import re
from collections.abc import Iterator
from importlib import import_module, metadata, util

from usvs.doctor.checks import Check
from usvs.utils.dependencies import EXTRA_OF_MODULE, PACKAGE_OF_MODULE

# Of a source tree that is not installed; `test_doctor` compares them with pyproject.toml.
CORE = (
    "numpy>=1.26",
    "pydantic>=2.10",
    "rich>=13",
    "safetensors>=0.5",
    "torch>=2.11",
    "typing_extensions>=4.12",
)
PURPOSES = {
    "av": "decoding of videos and audio",
    "cv2": "resizing, JPEG and drawing of frames",
    "joblib": "processes that prepare archives",
    "matplotlib": "plots",
    "pyarrow": "catalogues, embeddings and predictions as tables",
    "pydicom": "DICOM files",
    "scipy": "audio filters and significance tests",
    "simplejpeg": "reading of prepared frames",
    "sklearn": "linear probes and nearest neighbours",
    "soxr": "resampling of audio",
    "tensorboard": "curves of a run in TensorBoard",
    "espeakng_loader": "synthetic speech of 'usvs phantom' and 'usvs narrate'",
    "gdcm": "lossless JPEG in DICOM files",
    "jpeg_ls": "JPEG-LS in DICOM files",
    "openjpeg": "JPEG 2000 in DICOM files",
    "pylibjpeg": "compressed DICOM files",
    "nvidia.dali": "data loading on a GPU",
    "distributed": "preparation on a Dask cluster",
    "fsspec": "archives and stores in object storage",
    "shtab": "completion of commands by the shell",
    "timm": "encoders named timm:NAME",
    "onnx": "usvs export --format onnx",
    "onnxscript": "usvs export --format onnx",
    "onnxruntime": "comparison of an exported ONNX file with its original",
}


def core_packages() -> Iterator[Check]:
    """Yield a check for Python and for each package that the core needs."""
    from usvs import __version__

    yield Check("core", "usvs", "ok", f"{__version__}, Python {platform.python_version()}, {platform.platform()}")
    for requirement in CORE:
        name, _, least = requirement.partition(">=")
        yield _core_package(name, least)


def optional_packages() -> Iterator[Check]:
    """Yield a check for each optional package."""
    for module, purpose in PURPOSES.items():
        package, extra = PACKAGE_OF_MODULE.get(module, module), EXTRA_OF_MODULE[module]
        install = f"pip install 'usvs[{extra}]'"
        try:
            found = util.find_spec(module) is not None
        except (ImportError, ValueError):  # of a module inside a package that is absent or broken
            found = False
        if not found:
            yield Check("optional", package, "absent", f"{purpose}: {install}")
            continue
        try:
            import_module(module)
        except Exception as error:  # a package linked to another torch raises errors of its own
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            yield Check("optional", package, "absent", f"{purpose}: installed, but cannot be imported ({reason})")
            continue
        yield Check("optional", package, "ok", f"{_version(package, module)}: {purpose}")


def _core_package(name: str, least: str) -> Check:
    try:
        import_module(name)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return Check("core", name, "failed", f"cannot be imported ({reason}): pip install '{name}>={least}'")
    version = _version(name, name)
    if _numbers(version) < _numbers(least):
        return Check("core", name, "failed", f"expected at least {least}, got {version}: pip install '{name}>={least}'")
    return Check("core", name, "ok", version)


def _version(package: str, module: str) -> str:
    for name in _distributions(package, module):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return str(getattr(import_module(module), "__version__", "version unknown"))


def _distributions(package: str, module: str) -> Iterator[str]:
    """Yield the names under which a module may be installed; looking through all files of all packages comes last."""
    yield package
    yield from metadata.packages_distributions().get(module.partition(".")[0], [])


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else (0,)
