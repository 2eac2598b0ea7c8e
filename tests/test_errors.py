"""Errors name the argument, what came, what was expected, the alternatives; and stay what published code catches."""

from __future__ import annotations

import pickle

import pytest

from depth_anything_3 import errors
from depth_anything_3.errors import (
    CameraFileError,
    Cancelled,
    CapabilityError,
    CheckpointError,
    ConfigError,
    DA3Error,
    HubError,
    ImageError,
    InputError,
    MissingExtraError,
    UnknownNameError,
)

INPUT_ERRORS = [InputError, UnknownNameError, ConfigError, ImageError, CapabilityError]


@pytest.mark.parametrize("kind", INPUT_ERRORS)
def test_message_and_parts(kind: type[InputError]) -> None:
    error = kind("size", "3", "at least 14", (14, 28))
    assert str(error) == "size: got 3; expected at least 14 (valid: 14, 28)"
    assert (error.argument, error.got, error.expected, error.alternatives) == ("size", "3", "at least 14", ("14", "28"))


@pytest.mark.parametrize("kind", INPUT_ERRORS)
def test_without_alternatives_none_are_mentioned(kind: type[InputError]) -> None:
    assert str(kind("size", "3", "at least 14")) == "size: got 3; expected at least 14"
    assert kind("size", "3", "at least 14", iter(())).alternatives == ()


def test_alternatives_may_be_any_iterable() -> None:
    assert InputError("a", "b", "c", (name for name in "xy")).alternatives == ("x", "y")
    assert InputError("a", "b", "c", {"x": 1, "y": 2}).alternatives == ("x", "y")


@pytest.mark.parametrize(
    ("kind", "also"),
    [
        (InputError, ValueError),
        (UnknownNameError, ValueError),
        (UnknownNameError, KeyError),
        (ConfigError, ValueError),
        (ImageError, ValueError),
        (CameraFileError, ValueError),
        (CapabilityError, ValueError),
        (CheckpointError, ValueError),
        (HubError, OSError),
        (MissingExtraError, ImportError),
    ],
)
def test_builtin_kinds(kind: type[Exception], also: type[Exception]) -> None:
    assert issubclass(kind, also) and issubclass(kind, DA3Error)


def test_a_file_of_cameras_is_named() -> None:
    error = CameraFileError("--poses", "a/b.json", "no such file")
    assert isinstance(error, InputError) and (error.file, error.reason) == ("a/b.json", "no such file")
    assert str(error).startswith("--poses: got a/b.json (no such file); expected ")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) and again.file == error.file


def test_stopping_on_request_is_no_wrong_input() -> None:
    assert issubclass(Cancelled, DA3Error) and not issubclass(Cancelled, ValueError)


def test_every_error_of_the_package_is_here() -> None:
    own = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert all(issubclass(kind, DA3Error) for kind in own)
    assert set(own) == {
        *INPUT_ERRORS,
        CameraFileError,
        DA3Error,
        CheckpointError,
        HubError,
        MissingExtraError,
        Cancelled,
    }


def test_every_error_explains_itself() -> None:
    assert all((getattr(errors, name).__doc__ or "").strip() for name in dir(errors) if name.endswith("Error"))


@pytest.mark.parametrize("kind", INPUT_ERRORS)
def test_errors_reach_other_processes(kind: type[InputError]) -> None:
    error = kind("size", "3", "at least 14", (14,))
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is kind and str(back) == str(error) and back.alternatives == ("14",)
