"""What parsers of camera files raise, turned into one error that names the file."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from depth_anything_3.errors import CameraFileError

_DAMAGE = (
    OSError,
    ValueError,
    EOFError,
    LookupError,
    ArithmeticError,
    RecursionError,
    TypeError,
    AttributeError,
    struct.error,
)


@contextmanager
def damage_in(file: Path) -> Iterator[None]:
    """Turn what parsers raise on damaged files into a :class:`CameraFileError` about ``file``."""
    try:
        yield
    except CameraFileError:
        raise
    except FileNotFoundError:
        raise CameraFileError("cameras", file, "no such file") from None
    except KeyError as error:
        raise CameraFileError("cameras", file, f"{error} is missing") from error
    except _DAMAGE as error:
        raise CameraFileError("cameras", file, str(error) or type(error).__name__) from error
