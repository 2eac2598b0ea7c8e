"""``python -m depth_anything_3`` is ``da3``, also where scripts are not on the PATH."""

from __future__ import annotations

from depth_anything_3.cli import main

if __name__ == "__main__":
    main()
