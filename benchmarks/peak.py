"""What the benchmarks share: the memory of this process."""

from __future__ import annotations

import resource
import sys


def peak_bytes() -> int:
    """Largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 << 10 if sys.platform == "linux" else 1)
