"""What commands share to run on a server instead of here: ``--use-backend``, ``--backend-url``, ``--detach``."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from depth_anything_3.io.images import ImageSource
    from depth_anything_3.serve.client import Client, RemoteJob
    from depth_anything_3.types.progress import ProgressCallback

UseBackendOption = Annotated[
    bool, typer.Option("--use-backend", help="Upload the photos to a running 'da3 backend' and fetch the results.")
]
BackendUrlOption = Annotated[
    str, typer.Option(help="Of the backend. An API key is read from the environment variable DA3_API_KEY.")
]
DetachOption = Annotated[
    bool, typer.Option("--detach", help="With --use-backend: do not wait; print the id of the job.")
]
BACKEND_URL = "http://localhost:8008"


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


def run_on_backend(
    images: Sequence[ImageSource],
    options: Mapping[str, Any],
    *,
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
        uploads = [_upload(image, index) for index, image in enumerate(images)]
        job = client.submit(uploads, **{name: _plain(value) for name, value in options.items()})
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
        return RemoteResult(job=job, files=_fetch(client, job, export_dir), url=where)


def _fetch(client: Client, job: RemoteJob, folder: Path) -> tuple[Path, ...]:
    return client.download(job, folder)


def _upload(image: ImageSource, index: int) -> Path | tuple[str, bytes]:
    """A file as it is; everything else as a PNG, which loses nothing."""
    if isinstance(image, str | Path):
        return Path(image)
    from PIL import Image

    from depth_anything_3.io.images import decode_image

    decoded, buffer = decode_image(image, index=index, alpha="composite"), io.BytesIO()
    Image.fromarray(decoded.pixels).save(buffer, "PNG")
    return f"{Path(decoded.name).stem}.png", buffer.getvalue()


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
