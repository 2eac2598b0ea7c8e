"""OpenEXR files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np


def write_exr(file: Path, channels: Mapping[str, np.ndarray]) -> None:
    import OpenEXR

    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, {name: np.ascontiguousarray(pixels) for name, pixels in channels.items()}).write(str(file))
