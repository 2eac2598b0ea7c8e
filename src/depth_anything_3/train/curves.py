"""The log of a run as event files of TensorBoard, which shows the curves while the run goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from depth_anything_3._optional import require


class Curves:
    """Event files in a folder; nothing is written before the first numbers.

    Args:
        folder: is made if it does not exist; files of earlier runs stay, and the curves go on.

    Raises:
        MissingExtraError: the package tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        require("tensorboard", extra="tensorboard")
        self.folder = folder
        self._first: int | None = None

    def forget(self, step: int) -> None:
        """Let the curves forget what they say of steps after this one: they are done again."""
        self._first = step + 1

    def add(self, numbers: Mapping[str, float]) -> None:
        """Write one line of the log and close the file, so that an interruption loses nothing.

        Args:
            numbers: with the key ``step``.
        """
        from torch.utils.tensorboard import SummaryWriter

        step = int(numbers["step"])
        with SummaryWriter(str(self.folder), purge_step=self._first) as writer:
            for name, value in numbers.items():
                if name != "step":
                    writer.add_scalar(name.lstrip("_"), value, step)
        self._first = None
