"""What commands share to run on a server instead of here: ``--use-backend``, ``--backend-url``, ``--detach``."""

from __future__ import annotations

import io
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depth_anything_3.cli._console import progress_bars
from depth_anything_3.cli._options import ModelOptions, Scene, flag_name
from depth_anything_3.cli._scene import Job, inference_options, plan
from depth_anything_3.errors import InputError

if TYPE_CHECKING:
    from depth_anything_3.cli._material import Material
    from depth_anything_3.io.cameras.given import GivenViews
    from depth_anything_3.io.images import ImageSource
    from depth_anything_3.io.masks import MaskSource
    from depth_anything_3.serve.client import RemoteJob
    from depth_anything_3.types.options import AlphaMode
    from depth_anything_3.types.progress import ProgressCallback


@dataclass(frozen=True, kw_only=True)
class RemoteResult:
    """What became of a job on a server.

    Attributes:
        job: as the server described it last.
        files: what was fetched; empty with ``detach``.
        url: of the job, for people.
    """

    job: RemoteJob
    files: tuple[Path, ...]
    url: str


def reconstruct_there(material: Material, scene: Scene) -> None:
    """Do on a server what a command was asked for."""
    from depth_anything_3.cli._report import show_remote
    from depth_anything_3.io.masks import as_mask_list

    backend, report = scene.backend, scene.report
    _refuse_what_servers_decide(scene)
    job = plan(material, scene, writes=not backend.detach)
    started = time.perf_counter()
    with ExitStack() as stack:
        progress = stack.enter_context(progress_bars(quiet=report.quiet or report.as_json))
        passing = stack.enter_context(tempfile.TemporaryDirectory()) if backend.detach else ""
        views = material.load(Path(passing) if passing else job.folder, progress)
        result = run_on_backend(
            views.images,
            _arguments(job, views),
            masks=as_mask_list(scene.views.masks, views.images) if scene.views.masks is not None else (),
            url=backend.backend_url,
            export_dir=job.folder,
            detach=backend.detach,
            progress=progress,
            on_note=lambda note: warnings.warn(note, stacklevel=2),
        )
    show_remote(job, result, time.perf_counter() - started)


def _refuse_what_servers_decide(scene: Scene) -> None:
    """Options that would be lost on the way are errors, by their names."""
    model = scene.model
    typed = [flag_name(entry.name) for entry in fields(ModelOptions) if getattr(model, entry.name) != entry.default]
    if typed:
        expected = "neither of them: model, device and precision are chosen where 'da3 backend' is started"
        raise InputError("--use-backend", f"it with {', '.join(typed)}", expected)
    if scene.report.dry_run:
        raise InputError("--use-backend", "it with --dry-run", "one of the two: only the backend knows its model")
    wanted = {"--export-dir": scene.files.export_dir is not None, "--overwrite": scene.files.overwrite}
    if scene.backend.detach and any(wanted.values()):
        got = f"it with {', '.join(name for name, typed in wanted.items() if typed)}"
        raise InputError("--detach", got, "neither of them: results that are not waited for are not fetched")


def _arguments(job: Job, views: GivenViews) -> dict[str, Any]:
    """Arguments of ``DepthAnything3.inference``; None where the server's model decides."""
    scene = job.scene
    options = asdict(scene.preprocessing) | inference_options(scene, several=len(views.images) > 1)
    if "refine" in scene.left_open and options["refine"] == "full":
        options["refine"] = None
    return {
        **options,
        "extrinsics": views.extrinsics,
        "intrinsics": views.intrinsics,
        "intrinsics_origin": views.intrinsics_origin,
        "export_format": scene.files.export_format,
        **scene.files.general,
        "export_kwargs": scene.files.export_kwargs or None,
    }


def run_on_backend(
    images: Sequence[ImageSource],
    options: Mapping[str, Any],
    *,
    masks: Sequence[MaskSource | None] = (),
    url: str,
    export_dir: Path,
    detach: bool = False,
    progress: ProgressCallback | None = None,
    on_note: Callable[[str], None] | None = None,
) -> RemoteResult:
    """Upload, wait, fetch; the same files in ``export_dir`` as a run on this machine would write.

    Interrupted while it waits, it cancels the job.

    Args:
        images: files, or photos that are first freed from lens distortion here.
        options: arguments of ``DepthAnything3.inference``; arrays become lists.
        masks: one for each image, or none at all; all of a photo counts where it is None.
        url: of the server.
        export_dir: folder for the results.
        detach: return when the job is accepted.
        progress: called with the steps of the job.
        on_note: called with each warning of the server.

    Raises:
        ServerError: the server cannot be reached, or refuses. JobFailedError: the job failed.
    """
    from depth_anything_3.serve.client import Client

    with Client(url) as client:
        alpha = options.get("alpha", "composite")
        uploads = [_upload(image, index, alpha) for index, image in enumerate(images)]
        shown = [_mask(mask, image, index) for index, (mask, image) in enumerate(zip(masks, images, strict=False))]
        job = client.submit(uploads, masks=shown, **{name: _plain(value) for name, value in options.items()})
        where = f"{client.url}/v1/jobs/{job.id}"
        if detach:
            return RemoteResult(job=job, files=(), url=where)
        try:
            job = client.wait(job.id, on_change=None if progress is None else _reporter(progress))
        except KeyboardInterrupt:
            client.cancel(job.id)
            raise
        for note in job.notes if on_note is not None else ():
            on_note(note)  # type: ignore[misc] # not None here
        return RemoteResult(job=job, files=client.download(job, export_dir), url=where)


def _upload(image: ImageSource, index: int, alpha: AlphaMode) -> Path | tuple[str, bytes]:
    """A file as it is; everything else as a PNG, which loses nothing."""
    if isinstance(image, str | Path):
        return Path(image)
    from PIL import Image

    from depth_anything_3.io.images import decode_image

    decoded, buffer = decode_image(image, index=index, alpha=alpha), io.BytesIO()
    Image.fromarray(decoded.pixels).save(buffer, "PNG")
    return f"{Path(decoded.name).stem}.png", buffer.getvalue()


def _mask(mask: MaskSource | None, image: ImageSource, index: int) -> Path | tuple[str, bytes]:
    """A mask as a file; white all over where there is none."""
    if isinstance(mask, str | os.PathLike):
        return Path(mask)
    import numpy as np
    from PIL import Image

    from depth_anything_3.io.images import decode_image, image_size
    from depth_anything_3.io.masks import decode_mask

    if isinstance(image, str | os.PathLike):
        size = image_size(image, index=index)
    else:
        size = decode_image(image, index=index, alpha="composite").pixels.shape[:2]
    kept = np.ones(size, bool) if mask is None else decode_mask(mask, index=index, size=size)
    buffer = io.BytesIO()
    Image.fromarray(kept).save(buffer, "PNG")
    return f"mask_{index:04d}.png", buffer.getvalue()


def _plain(value: Any) -> Any:
    """Arrays and tuples as lists; a pose that is not known (NaN) as None, which JSON can say."""
    import numpy as np

    if isinstance(value, np.ndarray):
        if value.ndim == 3 and not np.isfinite(value).all():
            return [matrix.tolist() if np.isfinite(matrix).all() else None for matrix in value]
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value


def _reporter(progress: ProgressCallback) -> Callable[[RemoteJob], None]:
    from depth_anything_3.types.progress import Progress

    def show(job: RemoteJob) -> None:
        if job.stage is not None and job.progress is not None:
            progress(Progress("network", round(100 * job.progress), 100))

    return show
