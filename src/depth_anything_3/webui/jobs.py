"""What the form says, as a job."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from depth_anything_3.errors import InputError
from depth_anything_3.export.base import EXPORTERS
from depth_anything_3.types.options import CLEAN_PRESETS, GaussianSource, check_choice

POSE_METHODS = {"camera decoder": False, "rays": True}
"""What the form calls them -> ``use_ray_pose``."""

AUTOMATIC = "automatic"
"""Refinement as on the command line: where there are several photos and the model gives cameras."""

GAUSSIANS: dict[str, GaussianSource | None] = {"none": None, "from depth": "depth", "from the model's head": "head"}
"""What the form calls them -> ``gs_source``; None for no Gaussians."""

_ALWAYS = ("npz", "depth_vis")
_GAUSSIAN_FILES = ("gs_ply", "gs_splat")
_NAME = re.compile(r"[\w][\w .-]{0,99}")


@dataclass(frozen=True, kw_only=True)
class Form:
    """The settings of the page.

    Attributes:
        process_res: side in pixels; 0 for the model's own.
        process_res_method, ref_view_strategy, metric_focal: options of the Python API.
        refine: that option, or :data:`AUTOMATIC`.
        pose_method: a key of :data:`POSE_METHODS`.
        clean: a preset of :data:`~depth_anything_3.types.options.CLEAN_PRESETS`, for points and meshes.
        gaussians: a key of :data:`GAUSSIANS`.
        formats: files to write beside those that the page itself needs.
    """

    process_res: int = 0
    process_res_method: str = "upper_bound_resize"
    ref_view_strategy: str = "saddle_balanced"
    refine: str = AUTOMATIC
    metric_focal: str = "given"
    pose_method: str = "camera decoder"
    clean: str = "clean"
    gaussians: str = "none"
    formats: tuple[str, ...] = ("glb",)


def options_of(form: Form) -> dict[str, Any]:
    """The options of a job, see :mod:`depth_anything_3.serve.requests`.

    Raises:
        InputError: a value that the page does not offer.
    """
    check_choice("pose method", form.pose_method, tuple(POSE_METHODS))
    check_choice("Gaussians", form.gaussians, tuple(GAUSSIANS))
    source = GAUSSIANS[form.gaussians]
    check_choice("clean-up", form.clean, tuple(CLEAN_PRESETS))
    for name in form.formats:
        check_choice("formats", name, EXPORTERS.names())
    formats = [*_ALWAYS, *form.formats, *(_GAUSSIAN_FILES if source else ())]
    formats = list(dict.fromkeys(formats))
    options: dict[str, Any] = {
        "process_res_method": form.process_res_method,
        "ref_view_strategy": form.ref_view_strategy,
        "refine": None if form.refine == AUTOMATIC else form.refine,
        "metric_focal": form.metric_focal,
        "use_ray_pose": POSE_METHODS[form.pose_method],
        "infer_gs": source is not None,
        "export_format": "-".join(formats),
        "conf_thresh_percentile": CLEAN_PRESETS[form.clean].conf_percentile,
    }
    if form.process_res:
        options["process_res"] = int(form.process_res)
    if source is not None:
        options["gs_source"] = source
    if "mesh" in formats:
        options["export_kwargs"] = {"mesh": {"clean": form.clean}}
    return options


def gallery_name(name: str, taken: Sequence[str]) -> str:
    """The name of a folder directly in the gallery, free of anything that could lead elsewhere.

    Raises:
        InputError: other characters than letters, digits, spaces and ``_ . -``, or a name that is taken.
    """
    name = name.strip()
    if not _NAME.fullmatch(name) or name.endswith("."):
        raise InputError(
            "name in the gallery",
            repr(name),
            "letters, digits, spaces and _ . -, beginning with none of the last three",
        )
    if name in taken:
        raise InputError("name in the gallery", repr(name), "a name that is not taken")
    return name
