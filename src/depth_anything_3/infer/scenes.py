"""One scene, or several: the same verb for a list of views and for a list of such lists."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, overload, runtime_checkable

from depth_anything_3.errors import InputError
from depth_anything_3.io.images import ImageSource
from depth_anything_3.types.prediction import Prediction

P = ParamSpec("P")

PER_SCENE = ("extrinsics", "intrinsics", "anchors", "masks")
"""Arguments that come as a sequence with one entry per scene where there are several."""

Scenes = Sequence[list[Any] | tuple[Any, ...]]


@runtime_checkable
class _Bound(Protocol[P]):
    @overload
    def __call__(self, image: Scenes, *args: P.args, **kwargs: P.kwargs) -> tuple[Prediction, ...]: ...
    @overload
    def __call__(self, image: ImageSource | Sequence[ImageSource], *args: P.args, **kwargs: P.kwargs) -> Prediction: ...


@runtime_checkable
class _Verb(Protocol[P]):
    @overload
    def __get__(self, instance: None, owner: type) -> Callable[..., Any]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> _Bound[P]: ...


def is_nested(image: object) -> bool:
    """Whether views of several scenes came: a list or tuple of nothing but lists and tuples."""
    return isinstance(image, (list, tuple)) and bool(image) and all(isinstance(part, (list, tuple)) for part in image)


def one_or_several(verb: Callable[Concatenate[Any, Any, P], Prediction]) -> _Verb[P]:
    """Let a method for the views of one scene take nested lists: it is then called for one scene after the other.

    What :data:`PER_SCENE` names is handed out, one entry per scene; the files of scene i go to ``scene_000i`` in
    ``export_dir``; everything else is the same for all. The result is a tuple.
    """
    signature = inspect.signature(verb)

    @functools.wraps(verb)
    def wrapped(self: Any, image: Any, *args: Any, **kwargs: Any) -> Prediction | tuple[Prediction, ...]:
        if not is_nested(image):
            return verb(self, image, *args, **kwargs)
        given = signature.bind(self, image, *args, **kwargs).arguments
        common = {name: value for name, value in given.items() if name not in ("self", "image", *PER_SCENE)}
        parts = {name: _per_scene(name, given.get(name), len(image)) for name in PER_SCENE}
        found = []
        for index, views in enumerate(image):
            own: dict[str, Any] = {name: values[index] for name, values in parts.items()}
            if common.get("export_dir") is not None:
                own["export_dir"] = Path(common["export_dir"]) / f"scene_{index:04d}"
            found.append(verb(self, views, **{**common, **own}))  # type: ignore[call-arg]
        return tuple(found)

    return wrapped  # type: ignore[return-value]


def _per_scene(name: str, value: Any, count: int) -> Sequence[Any]:
    if value is None:
        return [None] * count
    if isinstance(value, (str, bytes)) or not hasattr(value, "__len__") or len(value) != count:
        got = f"{len(value)} entries" if hasattr(value, "__len__") else repr(value)
        raise InputError(name, f"{got} for {count} scenes", "one entry per scene, or None")
    return list(value)
