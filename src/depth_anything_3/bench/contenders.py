"""Who is under test, by name: our checkpoints, COLMAP, saved predictions, and what other packages add.

======================================  ================================================================================
``bundled``, a hub id, a folder         a checkpoint; ``bundled,cameras=rays`` and ``bundled,refine=full`` are rows of
                                        their own, with any options of :class:`ModelOptions`
``colmap``, ``sift``                    matching without a network, see :mod:`depth_anything_3.bench.classical`
``npz=FOLDER``                          predictions of any system on disk, see :class:`SavedPredictions`
``nearest_view``, ``true_splats``       references for ``nvs`` that know the truth, see
                                        :mod:`depth_anything_3.bench.novel_views`
a name from another package             a :class:`~depth_anything_3.bench.evaluate.Predictor` from the entry-point group
                                        ``depth_anything_3.predictor``: a function without arguments that makes it
======================================  ================================================================================
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np

from depth_anything_3.api import DepthAnything3
from depth_anything_3.bench.cache import digest
from depth_anything_3.bench.evaluate import Estimate, Predictor, ViewPredictor
from depth_anything_3.bench.held_out import CAMERA_SOURCES, CameraSource, ModelPredictor
from depth_anything_3.bench.novel_views import nearest_view, true_splats
from depth_anything_3.bench.task import Contender, Request
from depth_anything_3.errors import InputError
from depth_anything_3.registry import Registry
from depth_anything_3.types.options import GaussianSource, RefineMode, check_choice

PREDICTORS: Registry[Callable[[], Predictor]] = Registry("predictor")
"""Predictors that are no checkpoint, by name."""
PREDICTORS.register_lazy("colmap", "depth_anything_3.bench.classical:Colmap")
PREDICTORS.register_lazy("sift", "depth_anything_3.bench.classical:TwoViewSift")

REFERENCES: Mapping[str, Callable[[Request], Estimate]] = {"nearest_view": nearest_view, "true_splats": true_splats}
"""What is handed the truth, to show what scores of novel views mean."""

SAVED = "npz"

_FILES = {"results": "results.npz", "given": "given.npz", "views": "views.npz"}
_ARRAYS = ("depth", "extrinsics", "intrinsics", "pictures", "frames")


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """How a checkpoint runs.

    Attributes:
        process_res: longest side in pixels at which it runs; None for the model's own.
        cameras: where they come from, see :class:`~depth_anything_3.bench.held_out.ModelPredictor`.
        refine: see :class:`~depth_anything_3.types.options.InferOptions`.
        ref_view: the view that the others are seen from: ``first`` in the published evaluation.
        gs_source: of Gaussians for unseen views: the ``head``, or plain ones from the ``depth``; None takes the head of
            a model that has one.
    """

    process_res: int | None = None
    cameras: CameraSource = "decoder"
    refine: RefineMode = "off"
    ref_view: str = "first"
    gs_source: GaussianSource | None = None

    def __post_init__(self) -> None:
        check_choice("cameras", self.cameras, CAMERA_SOURCES)
        check_choice("refine", self.refine, get_args(RefineMode))
        if self.gs_source is not None:
            check_choice("gs_source", self.gs_source, get_args(GaussianSource))
        if self.process_res is not None and self.process_res < 14:
            raise InputError("process_res", repr(self.process_res), "at least 14 pixels")


def contenders(specs: Sequence[str]) -> list[Contender]:
    """The predictors of some specifications; see the module.

    Raises:
        InputError: an unknown option or value, a folder that is missing, or one specification given twice.
        CheckpointError, HubError: a checkpoint cannot be had.
    """
    if len(set(specs)) != len(specs):
        raise InputError("model", ", ".join(specs), "every predictor once")
    loaded: dict[str, DepthAnything3] = {}
    return [_contender(spec, loaded) for spec in specs]


def _contender(spec: str, loaded: dict[str, DepthAnything3]) -> Contender:
    if spec.startswith(f"{SAVED}="):
        return SavedPredictions(Path(spec.removeprefix(f"{SAVED}="))).contender()
    if spec in REFERENCES:
        return Contender(name=spec, identity=spec, answer=REFERENCES[spec], gives=frozenset({"views"}), cacheable=False)
    if spec in PREDICTORS:
        return _registered(spec)
    name, *given = spec.split(",")
    options = _options(given)
    if name not in loaded:
        loaded[name] = DepthAnything3.from_pretrained(name)
    return model_contender(spec, loaded[name], options)


def _options(given: Sequence[str]) -> ModelOptions:
    known = {field.name for field in fields(ModelOptions)}
    values: dict[str, Any] = {}
    for text in given:
        key, sign, value = text.partition("=")
        if not sign or key not in known:
            raise InputError("model", repr(text), "NAME,OPTION=VALUE", sorted(known))
        if key == "process_res" and not value.isdecimal():
            raise InputError("process_res", repr(value), "a number of pixels")
        values[key] = int(value) if key == "process_res" else value
    return ModelOptions(**values)


def model_contender(name: str, model: DepthAnything3, options: ModelOptions) -> Contender:
    """A loaded model under test.

    Args:
        name: in tables.
        model: any of ours.
        options: how it runs.
    """
    predictor = ModelPredictor(
        model=model,
        process_res=options.process_res,
        cameras=options.cameras,
        refine=options.refine,
        ref_view=options.ref_view,
        gs_source=options.gs_source,
    )
    gives = {"depth"} | ({"poses", "pairs", "views"} if "cameras" in model.model.abilities else set())
    return Contender(
        name=name,
        identity=digest({"weights": weights_hash(model), "process_res": model.process_res, "options": vars(options)}),
        answer=_asked(predictor),
        gives=frozenset(gives),
        given_cameras="pose_conditioning" in model.model.abilities,
        licence=model.origin.get("licence"),
    )


def weights_hash(model: DepthAnything3) -> str:
    """SHA-256 over names and bytes of all tensors, so that a checkpoint is known by what it holds, not by its place."""
    total = hashlib.sha256()
    for name, tensor in sorted(model.model.state_dict().items()):
        total.update(name.encode())
        total.update(np.ascontiguousarray(tensor.detach().cpu().float().numpy()).tobytes())
    return total.hexdigest()


def _registered(name: str) -> Contender:
    predictor = PREDICTORS[name]()
    module = type(predictor).__module__.split(".")[0].replace("_", "-")
    try:
        version = metadata.version("pycolmap" if name == "colmap" else module)
    except metadata.PackageNotFoundError:
        version = "unknown"
    return Contender(
        name=name,
        identity=digest({"name": name, "version": version}),
        answer=_asked(predictor),
        gives=frozenset(getattr(predictor, "gives", ("depth", "poses", "pairs"))),
        given_cameras=getattr(predictor, "given_cameras", True),
    )


def _asked(predictor: Predictor) -> Callable[[Request], Estimate]:
    def answer(request: Request) -> Estimate:
        images, cameras = request.images(), {"extrinsics": request.extrinsics, "intrinsics": request.intrinsics}
        if request.targets is None:
            return predictor(images, **cameras)
        painter = cast(ViewPredictor, predictor)
        return Estimate(pictures=painter.novel_views(images, **cameras, targets=request.targets))  # type: ignore[arg-type]

    return answer


@dataclass(frozen=True)
class SavedPredictions:
    """Predictions of any system in a folder, one file per scene: ``FOLDER/<scene id>/results.npz``.

    It holds ``depth`` (N, h, w), and where there are cameras ``extrinsics`` (N, 3, 4) or (N, 4, 4) world-to-camera with
    OpenCV axes and ``intrinsics`` (N, 3, 3) in pixels of the depth. ``frames`` names the N frames; without it they are
    the frames that are scored, in their order. What was predicted from given cameras lies in ``given.npz``, pictures of
    unseen views in ``views.npz``: ``pictures`` (M, H, W, 3) uint8 RGB, and their ``frames``.

    Raises:
        InputError: there is no such folder.
    """

    folder: Path

    def __post_init__(self) -> None:
        if not self.folder.is_dir():
            raise InputError("model", f"{SAVED}={self.folder}", "a folder of saved predictions")

    def contender(self) -> Contender:
        """Under test, by the name of its folder."""
        files = sorted(self.folder.rglob("*.npz"))
        names = {f.name for f in files}
        gives = {"depth", "poses", "pairs"} if names != {_FILES["views"]} else set()
        stamp = [(str(f.relative_to(self.folder)), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
        return Contender(
            name=f"{SAVED}={self.folder.name}",
            identity=digest({"saved": stamp}),
            answer=self.answer,
            gives=frozenset(gives | ({"views"} if _FILES["views"] in names else set())),
            given_cameras=bool(names & {_FILES["given"], _FILES["views"]}),
            cacheable=False,
        )

    def answer(self, request: Request) -> Estimate:
        """What the file of a scene says about some of its frames.

        Raises:
            InputError: the file is missing or damaged, or lacks a frame; it is named.
        """
        kind = "views" if request.targets else "results" if request.extrinsics is None else "given"
        file = self.folder / request.scene / _FILES[kind]
        if not file.is_file():
            raise InputError("model", f"{file}, which is missing", "a file of saved predictions for every scene")
        try:
            with np.load(file, allow_pickle=False) as data:
                arrays = {key: data[key] for key in _ARRAYS if key in data}
        except (OSError, ValueError, EOFError, KeyError) as error:
            raise InputError("model", f"{file} ({error})", "an undamaged npz file") from error
        rows = self._rows(file, arrays, request)
        if "extrinsics" in arrays:
            arrays["extrinsics"] = arrays["extrinsics"][:, :3]
        return Estimate(**{key: array[rows] for key, array in arrays.items() if key != "frames"})

    def _rows(self, file: Path, arrays: dict[str, Any], request: Request) -> list[int]:
        count = len(next(iter(arrays.values()), ()))
        wanted = request.targets.frames if request.targets else request.frames
        names = [str(name) for name in arrays["frames"]] if "frames" in arrays else list(request.scored)
        if len(names) != count:
            raise InputError("model", f"{file} with {count} views", f"{len(names)}, or their names in `frames`")
        index = {name: i for i, name in enumerate(names)}
        if missing := [frame for frame in wanted if frame not in index]:
            raise InputError("model", f"{file} without the frames {', '.join(missing[:5])}", "every frame of the scene")
        return [index[frame] for frame in wanted]
