"""Small pictures of results."""

from __future__ import annotations

import io
import warnings
from functools import lru_cache
from pathlib import Path

from PIL import Image

SIDE = 480
_QUALITY = 80


def thumbnail(path: Path) -> bytes | None:
    """A JPEG of at most 480 x 480 pixels, or None where the file is no picture that can be read safely."""
    try:
        facts = path.stat()
        return _scaled(path, facts.st_mtime_ns, facts.st_size)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return None


@lru_cache(maxsize=512)
def _scaled(path: Path, changed: int, size: int) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path) as picture:
            picture.draft("RGB", (SIDE, SIDE))
            small = picture.convert("RGB")
    small.thumbnail((SIDE, SIDE))
    data = io.BytesIO()
    small.save(data, format="JPEG", quality=_QUALITY)
    return data.getvalue()
