"""Every exception this package raises on purpose.

An error for a user names the argument, what came, what was expected and, where there are any, the alternatives.
All of them derive from :class:`DA3Error`; the ones about wrong input are also :class:`ValueError`, so that code
written for the published package keeps catching them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable


class DA3Error(Exception):
    """Base class of all errors raised on purpose by this package."""


class InputError(DA3Error, ValueError):
    """An argument is wrong.

    Args:
        argument: name of the offending argument, as the caller spells it.
        got: what came (a value, a shape, a file), already formatted for a person.
        expected: what would have been right.
        alternatives: the valid choices, if they can be listed.
    """

    def __init__(self, argument: str, got: str, expected: str, alternatives: Iterable[object] = ()) -> None:
        self.argument, self.got, self.expected = argument, got, expected
        self.alternatives = tuple(str(a) for a in alternatives)
        message = f"{argument}: got {got}; expected {expected}"
        if self.alternatives:
            message += f" (valid: {', '.join(self.alternatives)})"
        super().__init__(message)

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str, str, tuple[str, ...]]]:
        """What it is made again from in another process; by default the message alone, which is not enough."""
        return type(self), (self.argument, self.got, self.expected, self.alternatives)


class UnknownNameError(InputError, KeyError):
    """A name is not registered; the known ones are listed. Also a :class:`KeyError`, as in the published package."""

    __str__ = Exception.__str__  # KeyError would print the repr of the message


class ConfigError(InputError):
    """A model configuration cannot be read or built."""


class ImageError(InputError):
    """An input image cannot be read or used; the message names the file or the index."""


class CameraFileError(InputError):
    """A file of cameras cannot be read or used.

    Args:
        argument: name of the argument that named the file, as the caller spells it.
        file: the file, or the folder, that is at fault.
        reason: what is wrong with it.
        expected, alternatives: see :class:`InputError`.
    """

    def __init__(
        self,
        argument: str,
        file: str | os.PathLike[str],
        reason: str,
        expected: str = "a complete, undamaged file of cameras",
        alternatives: Iterable[object] = (),
    ) -> None:
        self.file, self.reason = os.fspath(file), reason
        super().__init__(argument, f"{self.file} ({reason})", expected, alternatives)

    def __reduce__(self) -> tuple[type[CameraFileError], tuple[str, str, str, str, tuple[str, ...]]]:  # type: ignore[override]
        """What it is made again from in another process."""
        return type(self), (self.argument, self.file, self.reason, self.expected, self.alternatives)


class CapabilityError(InputError):
    """The loaded model cannot do what was asked (no pose encoder, no Gaussian head, no cameras, ...)."""


class CheckpointError(DA3Error, ValueError):
    """A checkpoint does not fit its configuration, is damaged, or is not a safetensors file."""


class HubError(DA3Error, OSError):
    """A checkpoint could not be obtained from the hub."""


class MissingExtraError(DA3Error, ImportError):
    """An optional dependency is needed and not installed; the message holds the command that installs it."""


class Cancelled(DA3Error):  # noqa: N818 - an outcome that was asked for
    """The caller asked for the running inference to stop."""
