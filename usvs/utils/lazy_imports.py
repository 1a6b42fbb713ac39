"""Attributes of a package that are imported when they are first used, so that importing the package costs nothing."""

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any


def lazy_attributes(package: str, modules: Mapping[str, Sequence[str]], packages: Sequence[str] = ()) -> None:
    """Give a package, which calls this, the ``__getattr__``, ``__dir__`` and ``__all__`` of these names (PEP 562).

    Args:
        package: name of the package, for example ``usvs.data``.
        modules: the names that each module below the package offers.
        packages: packages below it that are attributes without an import of their own.

    Raises:
        AttributeError: by that ``__getattr__``, for another name.
        MissingDependencyError: by that ``__getattr__``, where the module needs a package that is not installed.
    """
    module_of = {name: module for module, names in modules.items() for name in names}

    def get_attribute(name: str) -> Any:
        if name in packages:
            return import_module(f"{package}.{name}")
        if name not in module_of:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        try:
            return getattr(import_module(f"{package}.{module_of[name]}"), name)
        except ModuleNotFoundError as error:
            from usvs.utils.dependencies import is_missing_dependency, missing_dependency

            if is_missing_dependency(error):
                raise missing_dependency(error) from None
            raise

    names = sorted([*module_of, *packages])
    vars(sys.modules[package]).update(__getattr__=get_attribute, __dir__=lambda: names, __all__=names)
