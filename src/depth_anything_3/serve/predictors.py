"""What a worker runs: the interface, and the one of the package's own models."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from depth_anything_3.serve.requests import JobRequest
from depth_anything_3.serve.settings import ServerSettings
from depth_anything_3.types.options import PreprocessOptions
from depth_anything_3.types.progress import Progress

if TYPE_CHECKING:
    from depth_anything_3.api import DepthAnything3


@dataclass(frozen=True, kw_only=True)
class Task:
    """One job as a predictor sees it.

    Attributes:
        images: files, in order; or one video.
        files: what came beside them, see :data:`depth_anything_3.serve.intake.SCENE_FILES`.
        request: options.
        folder: where results go; exists and is empty.
    """

    images: Sequence[Path]
    files: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    request: JobRequest
    folder: Path


class Predictor(Protocol):
    """What a worker process runs. It is made once per worker, and called from one thread."""

    def __init__(self, settings: ServerSettings, device: str) -> None: ...

    def load(self) -> dict[str, Any]:
        """Make ready; called before the first job. Returns facts for the status page: ``device``, ``process_res``."""

    def run(
        self, tasks: Sequence[Task], report: Callable[[Progress], None], cancel: threading.Event
    ) -> list[dict[str, Any]]:
        """Write the results of every task and return their summaries. Several tasks are single images that may run
        together. Raises what went wrong with any of them; :class:`~depth_anything_3.errors.Cancelled` if told to."""


class ModelPredictor:
    """Runs ``DepthAnything3`` on one device."""

    def __init__(self, settings: ServerSettings, device: str) -> None:
        self._settings, self._device = settings, device
        self._model: DepthAnything3 | None = None

    @property
    def model(self) -> DepthAnything3:
        """The model, loaded when first asked for."""
        if self._model is None:
            from depth_anything_3.api import DepthAnything3

            settings = self._settings
            self._model = DepthAnything3.from_pretrained(settings.model, device=self._device, dtype=settings.dtype)
        return self._model

    def load(self) -> dict[str, Any]:
        """Load the model."""
        model = self.model
        return {
            "device": str(model.device),
            "process_res": model.process_res,
            "cameras": "cameras" in model.model.abilities,
            "model_name": model.model_name,
        }

    def run(
        self, tasks: Sequence[Task], report: Callable[[Progress], None], cancel: threading.Event
    ) -> list[dict[str, Any]]:
        """See :class:`Predictor`."""
        if len(tasks) > 1:
            return self._run_together(tasks, report, cancel)
        from depth_anything_3.serve.scene import open_scene
        from depth_anything_3.serve.summary import summarise

        (task,) = tasks
        request = replace(task.request, preprocess=_at(task.request, self.model.process_res))
        views, known = open_scene(task.images, task.files, request, self._settings.limits)
        lens = known.get("intrinsics") is not None
        formats = self._formats(task.request, views=len(views), with_intrinsics=lens)
        arguments = {**task.request.arguments(), **known, "export_format": formats}
        if arguments["refine"] is None:
            several = len(views) > 1 and "cameras" in self.model.model.abilities
            arguments["refine"] = "full" if several else "off"
        prediction = self.model.inference(views, export_dir=task.folder, progress=report, cancel=cancel, **arguments)
        return [summarise(prediction)]

    def _run_together(
        self, tasks: Sequence[Task], report: Callable[[Progress], None], cancel: threading.Event
    ) -> list[dict[str, Any]]:
        from depth_anything_3.infer.singles import predict_singles
        from depth_anything_3.serve.summary import summarise

        model, request = self.model, tasks[0].request
        model.check_options(request.infer)
        options = [self._export_options(task.request) for task in tasks]
        predictions = predict_singles(
            model.model,
            [task.images[0] for task in tasks],
            preprocessing=_at(request, model.process_res),
            options=request.infer,
            device=model.device,
            dtype=model.dtype,
            model_name=model.model_name,
            progress=report,
            cancel=cancel,
        )
        from depth_anything_3.export.base import export_all

        for task, prediction, chosen in zip(tasks, predictions, options, strict=True):
            export_all(prediction, task.folder, chosen, model=model.origin)
        return [summarise(prediction) for prediction in predictions]

    def _formats(self, request: JobRequest, *, views: int | None = None, with_intrinsics: bool = False) -> str:
        fields = self.model.predicted_fields(request.infer, views=views, with_intrinsics=with_intrinsics)
        cameras = "extrinsics" in fields
        return request.scene.export_format or ("mini_npz-glb" if cameras else "mini_npz-depth_vis")

    def _export_options(self, request: JobRequest) -> dict[str, Any]:
        from depth_anything_3.export.base import check_exportable, parse_formats, resolve_options, shared_defaults

        names = ("conf_thresh_percentile", "num_max_points", "show_cameras", "feat_vis_fps", "clean")
        general = {name: getattr(request.scene, name) for name in names}
        formats = parse_formats(self._formats(request))
        options = resolve_options(formats, request.scene.export_kwargs, shared_defaults(general))
        check_exportable(options, self.model.predicted_fields(request.infer))
        return options


def _at(request: JobRequest, process_res: int) -> PreprocessOptions:
    return replace(request.preprocess, process_res=request.given.get("process_res") or process_res)
