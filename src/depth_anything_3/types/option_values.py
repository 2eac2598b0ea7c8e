"""Option dataclasses from loose values, with errors that name the option as the user spelled it."""

from __future__ import annotations

import dataclasses
import reprlib
import types
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from depth_anything_3.errors import InputError

O = TypeVar("O")  # noqa: E741

_BRIEF = reprlib.Repr()  # cameras of many views would fill pages
_BRIEF.maxlist = _BRIEF.maxtuple = _BRIEF.maxdict = 20
_BRIEF.maxstring = _BRIEF.maxother = _BRIEF.maxlong = 200


def build_options(cls: type[O], sources: Mapping[str, Mapping[str, object]]) -> O:
    """An instance of the dataclass ``cls`` from several sources, the first one that has a field winning.

    Args:
        cls: a dataclass whose annotations are bool, int, float, str, None, Literal, unions and tuples of them.
        sources: prefix for error messages -> values by field name.

    Raises:
        InputError: an unknown field, or a value of the wrong type, or one that the class itself refuses. The argument
            is the field with the prefix of the source that it came from.
    """
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    hints = get_type_hints(cls)
    values: dict[str, Any] = {}
    spelled: dict[str, str] = {}
    for prefix, source in sources.items():
        for name, value in source.items():
            if name not in names:
                raise InputError(f"{prefix}{name}", "an unknown option", "one of the known options", names)
            if name not in values:
                spelled[name] = f"{prefix}{name}"
                values[name] = _converted(spelled[name], value, hints[name])
    try:
        return cls(**values)
    except InputError as error:
        argument = spelled.get(error.argument, error.argument)
        raise InputError(argument, error.got, error.expected, error.alternatives) from None


def _converted(argument: str, value: object, hint: Any) -> Any:
    fits, result = _fit(value, hint)
    if not fits:
        choices = get_args(hint) if get_origin(hint) is Literal else ()
        expected = "one of the valid values" if choices else _spelling(hint)
        raise InputError(argument, _BRIEF.repr(value), expected, choices)
    return result


def _fit(value: object, hint: Any) -> tuple[bool, Any]:
    """Whether a value is what an annotation says, and the value as that type."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return next((fit for fit in (_fit(value, choice) for choice in get_args(hint)) if fit[0]), (False, None))
    if origin is Literal:
        return value in get_args(hint), value
    if origin is tuple:
        return _fit_items(value, get_args(hint))
    if hint in (int, float):
        kind: Any = Integral if hint is int else Real
        fits = isinstance(value, kind) and not isinstance(value, bool)
        return fits, hint(value) if fits else None
    return isinstance(value, hint), value


def _fit_items(value: object, hints: tuple[Any, ...]) -> tuple[bool, Any]:
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        return False, None
    if hints[-1] is ...:
        hints = hints[:1] * len(value)
    if len(hints) != len(value):
        return False, None
    fits = [_fit(item, hint) for item, hint in zip(value, hints, strict=True)]
    return all(fit for fit, _ in fits), tuple(item for _, item in fits)


_SPELLINGS = {bool: "True or False", int: "a whole number", float: "a number", str: "a string", type(None): "None"}


def _spelling(hint: Any) -> str:
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_spelling(choice) for choice in get_args(hint))
    return _SPELLINGS.get(hint, str(hint))
