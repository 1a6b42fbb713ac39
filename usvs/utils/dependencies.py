"""Optional packages: which extra of usvs installs them, and one clear error when one is missing."""

from usvs.errors import MissingDependencyError

EXTRA_OF_MODULE = {
    "av": "train",
    "cv2": "train",
    "joblib": "train",
    "matplotlib": "train",
    "pyarrow": "train",
    "pydicom": "train",
    "scipy": "train",
    "simplejpeg": "train",
    "sklearn": "train",
    "soxr": "train",
    "tensorboard": "train",
    "espeakng_loader": "phantom",
    "gdcm": "dicom",
    "jpeg_ls": "dicom",
    "openjpeg": "dicom",
    "pylibjpeg": "dicom",
    "nvidia.dali": "dali",
    "distributed": "dask",
    "fsspec": "storage",
    "shtab": "completion",
    "timm": "timm",
    "onnx": "onnx",
    "onnxscript": "onnx",
    "onnxruntime": "onnx",
}
PACKAGE_OF_MODULE = {
    "cv2": "opencv-python-headless",
    "espeakng_loader": "espeakng-loader",
    "gdcm": "python-gdcm",
    "jpeg_ls": "pyjpegls",
    "nvidia.dali": "nvidia-dali",
    "openjpeg": "pylibjpeg-openjpeg",
    "sklearn": "scikit-learn",
}


def missing_dependency(error: BaseException, module: str | None = None) -> MissingDependencyError:
    """Return the error to raise for an optional package that cannot be imported.

    Example:
        >>> try:
        ...     import av
        ... except ModuleNotFoundError as error:
        ...     raise missing_dependency(error) from None

    Args:
        error: the exception of the import.
        module: the module that was imported; None: as the exception says.

    Returns:
        An error such as ``package 'av' is missing: pip install 'usvs[train]'``.
    """
    known = _known_module(module or getattr(error, "name", None) or "")
    if known is None:
        return MissingDependencyError(str(error))
    package = PACKAGE_OF_MODULE.get(known, known)
    install = f"pip install 'usvs[{EXTRA_OF_MODULE[known]}]'"
    if isinstance(error, ModuleNotFoundError) and _known_module(error.name or "") == known:
        return MissingDependencyError(f"package '{package}' is missing: {install}")
    return MissingDependencyError(f"package '{package}' cannot be imported ({error}): {install}")


def is_missing_dependency(error: BaseException) -> bool:
    """Return whether an exception is the failed import of an optional package."""
    return isinstance(error, ModuleNotFoundError) and _known_module(error.name or "") is not None


def _known_module(name: str) -> str | None:
    """Return the entry of the table for a module or a part of it, such as ``av.video``."""
    parts = ("nvidia.dali" if name == "nvidia" else name).split(".")
    prefixes = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((prefix for prefix in prefixes if prefix in EXTRA_OF_MODULE), None)
