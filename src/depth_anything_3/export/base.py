"""Exporters by name, their options, and the one function that runs them.

Every module of this package whose name has no leading underscore, except this one, is an exporter: its name is the
name of the format, and it defines ``EXPORTER``. Listing exporters and reading their options imports neither torch nor
numpy. Other packages add exporters through the entry-point group ``depth_anything_3.exporter``.
"""

from __future__ import annotations

import json
import pkgutil
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from depth_anything_3.errors import CapabilityError, InputError, UnknownNameError
from depth_anything_3.registry import Registry
from depth_anything_3.types.option_values import build_options

if TYPE_CHECKING:
    from depth_anything_3.types.prediction import Prediction

O = TypeVar("O")  # noqa: E741


@dataclass(frozen=True, kw_only=True)
class Exporter(Generic[O]):
    """One way of writing a prediction to disk.

    Attributes:
        options: the frozen, keyword-only dataclass of the settings; all of them have defaults.
        export: writes into the folder (made where needed) and returns the files in the order of ``planned_files``.
            Files appear whole or not at all. The prediction is only read.
        planned_files: paths relative to the folder that a prediction of so many views leads to.
        needs: fields of :class:`Prediction` without which the format is impossible; ``depth`` is always there.
        facts: what the manifest shall say of what was written into a folder, as plain data; None for nothing.
    """

    options: type[O]
    export: Callable[[Prediction, Path, O], list[Path]]
    planned_files: Callable[[int, O], list[str]]
    needs: frozenset[str] = frozenset()
    facts: Callable[[Path, O], Mapping[str, Any]] | None = None


def _find_exporters() -> Registry[Exporter[Any]]:
    registry: Registry[Exporter[Any]] = Registry("exporter")
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if module.name != "base" and not module.name.startswith("_"):
            registry.register_lazy(module.name, f"{__package__}.{module.name}:EXPORTER")
    return registry


_ASKED_FOR_BY = {
    "aux": "features (export_feat_layers, --export-feat)",
    "gaussians": "gaussians (infer_gs, --infer-gs)",
}
"""Fields that a prediction only has where something was asked for."""

MANIFEST = "exports.json"
"""The file that every export writes last, see :mod:`depth_anything_3.export._manifest`."""

MANIFEST_FORMAT = "depth-anything-3 exports"
"""What this file says it is."""

EXPORTERS: Registry[Exporter[Any]] = _find_exporters()
"""Exporters by format name, imported when first asked for."""


def parse_formats(export_format: str) -> list[str]:
    """Split ``"glb-npz"`` into format names; the order is kept, duplicates are dropped.

    Raises:
        InputError: not a string, or an empty name.
        UnknownNameError: a name is not registered; the known ones are listed. The argument is ``export_format``.
    """
    if not isinstance(export_format, str):
        raise InputError("export_format", repr(export_format), "format names joined by '-'", EXPORTERS.names())
    names = [name.strip() for name in export_format.split("-")]
    for name in names:
        if not name:
            raise InputError("export_format", repr(export_format), "format names joined by '-'", EXPORTERS.names())
        if name not in EXPORTERS:
            raise UnknownNameError("export_format", repr(name), "registered formats", EXPORTERS.names())
    return list(dict.fromkeys(names))


def resolve_options(
    formats: Sequence[str],
    export_kwargs: Mapping[str, Mapping[str, object]] | None = None,
    defaults: Mapping[str, Mapping[str, object]] | None = None,
) -> dict[str, Any]:
    """The options of every format, in the order of ``formats``; nothing that was passed is changed.

    Args:
        formats: names from :func:`parse_formats`.
        export_kwargs: per format, what the user asks for. It wins over ``defaults``.
        defaults: per format, what general arguments ask for (``num_max_points``, ...); formats that are not exported
            are ignored.

    Raises:
        InputError: an unknown option, or a value of the wrong type or range. The argument is
            ``export_kwargs[FORMAT].OPTION``, or the option alone where the value comes from ``defaults``.
        UnknownNameError: ``export_kwargs`` names a format that does not exist.

    Warns:
        UserWarning: ``export_kwargs`` names a format that is not exported.
    """
    wanted, defaults = _check_export_kwargs(export_kwargs), defaults or {}
    for name in wanted:
        if name not in formats:
            warnings.warn(
                f"export_kwargs[{name}] has no effect: the formats exported are {', '.join(formats)}", stacklevel=2
            )
    return {
        name: build_options(
            EXPORTERS[name].options,
            {f"export_kwargs[{name}].": wanted.get(name, {}), "": defaults.get(name, {})},
        )
        for name in formats
    }


def _check_export_kwargs(export_kwargs: object) -> Mapping[str, Mapping[str, object]]:
    if export_kwargs is None:
        return {}
    if not isinstance(export_kwargs, Mapping):
        raise InputError("export_kwargs", repr(export_kwargs), "a mapping from format to a mapping of options")
    for name, options in export_kwargs.items():
        if name not in EXPORTERS:
            raise UnknownNameError("export_kwargs", repr(name), "registered formats", EXPORTERS.names())
        if not isinstance(options, Mapping):
            raise InputError(f"export_kwargs[{name}]", repr(options), "a mapping from option to value")
    return export_kwargs


def check_exportable(formats: Iterable[str], abilities: Iterable[str]) -> None:
    """Refuse formats that need what the prediction will not hold, before anything is computed.

    Args:
        formats: format names.
        abilities: names of the fields of :class:`Prediction` that will not be None.

    Raises:
        CapabilityError: names the format, what is missing, and the formats that are possible.
    """
    available = {"depth", *abilities}
    for name in formats:
        missing = sorted(EXPORTERS[name].needs - available)
        if missing:
            possible = [other for other in EXPORTERS if EXPORTERS[other].needs <= available]
            wanted = " and ".join(_ASKED_FOR_BY.get(field, field) for field in missing)
            raise CapabilityError(
                "export_format",
                f"{name!r}, which needs {wanted} that this prediction does not have",
                f"formats for what is there ({', '.join(sorted(available))})",
                possible,
            )


def available_fields(prediction: Prediction) -> frozenset[str]:
    """Names of the fields of a prediction that hold something."""
    optional = ("sky", "conf", "extrinsics", "intrinsics", "processed_images", "gaussians", "scale_factor")
    filled = [name for name in optional if getattr(prediction, name) is not None]
    filled += [name for name in ("aux", "names", "records") if getattr(prediction, name)]
    return frozenset({"depth", *filled})


def planned_files(count: int, options: Mapping[str, object]) -> list[str]:
    """The files that :func:`export_all` would write for ``count`` views, relative to the folder, each named once."""
    files = (file for name, chosen in options.items() for file in EXPORTERS[name].planned_files(count, chosen))
    return list(dict.fromkeys((*files, MANIFEST)))


def shared_defaults(arguments: Mapping[str, object]) -> dict[str, dict[str, object]]:
    """General arguments as defaults for :func:`resolve_options`, for every format that they are meant for.

    Args:
        arguments: some of ``conf_thresh_percentile``, ``num_max_points``, ``show_cameras``, ``feat_vis_fps``,
            ``clean`` (None leaves every format its own), ``export_feat_layers``, ``render_exts``, ``render_ixts`` and
            ``render_hw``.
    """
    meant_for = {
        "conf_thresh_percentile": ("glb", "ply", "colmap", "nerfstudio", "rerun"),
        "num_max_points": ("glb", "ply", "nerfstudio", "rerun"),
        "show_cameras": ("glb",),
        "clean": ("glb", "ply", "colmap", "mesh", "nerfstudio", "rerun"),
        "feat_vis_fps": ("feat_vis",),
        "export_feat_layers": ("feat_vis",),
        "render_exts": ("gs_video",),
        "render_ixts": ("gs_video",),
        "render_hw": ("gs_video",),
    }
    spelled = {
        "feat_vis_fps": "fps",
        "export_feat_layers": "layers",
        "render_exts": "extrinsics",
        "render_ixts": "intrinsics",
        "render_hw": "out_image_hw",
    }
    result: dict[str, dict[str, object]] = {}
    for argument, value in arguments.items():
        if argument == "clean" and value is None:
            continue
        for name in meant_for[argument]:
            result.setdefault(name, {})[spelled.get(argument, argument)] = value
    return result


def export_all(
    prediction: Prediction,
    folder: str | Path,
    options: Mapping[str, object],
    *,
    on_format: Callable[[str, int, int], None] | None = None,
    model: Mapping[str, object] | None = None,
    more: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write a prediction in every format asked for, one after the other, and ``exports.json``, which describes them.

    Returns when all files are there.

    Args:
        prediction: what to write. It is not changed, and the order of the formats changes no file.
        folder: where; made if needed. Files of the same names are replaced, others are left alone.
        options: format name -> its options, from :func:`resolve_options`.
        on_format: called with a format, how many of its files are there and how many it will have: with 0 when the
            format is begun, and again when it is complete.
        model: what is known of the checkpoint (``source``, ``revision``, ``licence``), as plain data for the manifest.
        more: entries of the manifest that are added to, or stand for, those of the prediction; those of ``formats``
            name the files that were written beside.

    Returns:
        The paths of all files, each once, in the order written.

    Raises:
        CapabilityError: a format needs what the prediction does not have. Nothing is written.
        InputError: the folder is a file, an option object is of the wrong class, or there are no views.
    """
    target = Path(folder)
    _check_request(prediction, target, options)
    told = on_format or (lambda *_: None)
    written: dict[Path, None] = {}
    files: dict[str, list[str]] = {}
    for name, chosen in options.items():
        told(name, 0, len(EXPORTERS[name].planned_files(len(prediction.depth), chosen)))
        paths = EXPORTERS[name].export(prediction, target, chosen)
        files[name] = [path.relative_to(target).as_posix() for path in paths]
        written |= dict.fromkeys(paths)
        told(name, len(paths), len(paths))
    written[_write_manifest(prediction, target / MANIFEST, options, files, model or {}, more or {})] = None
    return list(written)


def _write_manifest(
    prediction: Prediction,
    path: Path,
    options: Mapping[str, object],
    files: Mapping[str, list[str]],
    model: Mapping[str, object],
    more: Mapping[str, Any],
) -> Path:
    from depth_anything_3.export._json import write_json
    from depth_anything_3.export._manifest import manifest

    told = {name: EXPORTERS[name].facts for name in options}
    facts = {name: tell(path.parent, options[name]) for name, tell in told.items() if tell is not None}
    content = manifest(prediction, options, files, model, facts)
    formats = content["formats"] | more.get("formats", {})
    left = still_there(path.parent, (entry["files"] for entry in formats.values()))
    return write_json(path, {**content, **more, "formats": formats, **left})


def files_of_result(folder: Path) -> list[str] | None:
    """The files that exports wrote into a folder, relative to it, as its manifest has them; None where there is none.

    Those of earlier exports that later ones left are among them.
    """
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if found["format"] != MANIFEST_FORMAT:
            return None
        listed = [name for entry in found["formats"].values() for name in entry["files"]]
        return [str(name) for name in (*listed, *found.get("earlier_files", ()))]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def still_there(folder: Path, written: Iterable[Iterable[str]]) -> dict[str, list[str]]:
    """For the new manifest of a folder: the files of earlier exports that are still there and not written anew.

    Without them nothing would tell these from files of the user. Empty in a folder that is new.
    """
    anew = {name for names in written for name in names}
    left = sorted(name for name in {*(files_of_result(folder) or ())} - anew if (folder / name).is_file())
    return {"earlier_files": left} if left else {}


def _check_request(prediction: Prediction, target: Path, options: Mapping[str, object]) -> None:
    if target.exists() and not target.is_dir():
        raise InputError("export_dir", f"the file {target}", "a folder")
    if not len(prediction.depth):
        raise InputError("prediction", "no views", "at least one view")
    check_exportable(options, available_fields(prediction))
    for name, chosen in options.items():
        if not isinstance(chosen, EXPORTERS[name].options):
            raise InputError(f"options[{name}]", repr(chosen), f"an instance of {EXPORTERS[name].options.__qualname__}")
