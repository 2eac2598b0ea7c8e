"""JSON files that are equal for equal contents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from depth_anything_3._files import atomic_path


def write_json(path: Path, content: Any) -> Path:
    """Write plain data with sorted keys; it appears whole or not at all.

    Raises:
        ValueError: a number is not finite: JSON has no word for it.
    """
    with atomic_path(path) as temporary:
        text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8", newline="\n")
    return path
