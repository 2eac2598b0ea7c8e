"""Optional dependencies, imported where they are used and explained where they are missing."""

from __future__ import annotations

import importlib
from types import ModuleType

from depth_anything_3.errors import MissingExtraError


def require(module: str, *, extra: str) -> ModuleType:
    """Import ``module`` or say which extra of this package provides it.

    Args:
        module: dotted name of the module to import.
        extra: name of the extra in ``pyproject.toml`` that installs it.

    Raises:
        MissingExtraError: the module, or something it imports, is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{module} is needed here and could not be imported ({error}). "
            f"Install it with: pip install 'depth-anything-3[{extra}]'"
        ) from error
