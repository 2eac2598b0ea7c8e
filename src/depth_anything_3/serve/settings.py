"""What a server is told when it starts, as plain data."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

from depth_anything_3.errors import InputError

MIB = 1 << 20
LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Host names that only programs of the same machine reach."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request, one job and the whole server may take.

    Attributes:
        body_bytes: of one request.
        file_bytes: of one image or camera file.
        video_bytes: of one video.
        images: of one job; of a video, the frames that are taken.
        image_pixels: of one image, by its header, before it is decoded.
        processed_pixels: of one job at network size, all images together.
        queued: jobs that wait at the same time.
        tries: a job whose worker died so often is failed.
        runs: a job that was begun so often, whatever ended it (restarts of the server too), is failed.
        job_seconds: of one run of a job.
        worker_bytes: resident memory of a worker; None for no limit. Only on systems with ``/proc``.
        cancel_seconds: a worker that does not stop within that time after a cancel is ended.
        stop_seconds: what running jobs get when the server stops; then they are queued again.
        retention_seconds: how long finished jobs and their files stay.
        disk_bytes: of all jobs together; new ones are refused above it.
        batch: single-image jobs that run together.
        requests_per_minute: of one key, or one address where there are no keys.
        wrong_keys_per_minute: of one address.
        owner_queued: jobs of one key (where there are no keys: of everybody) that wait at the same time; None for no
            limit but ``queued``.
        owner_images_per_day: of one key likewise; a video counts with its frames once it is done. None for no limit.
        streams: event streams at the same time.
        body_seconds: without a byte of the body, a request is ended.
        answer_seconds: how long an OpenAI-style request waits for its job.
        url_bytes, url_seconds, url_redirects: of an image that is fetched from a URL.
    """

    body_bytes: int = 512 * MIB
    file_bytes: int = 64 * MIB
    video_bytes: int = 256 * MIB
    images: int = 256
    image_pixels: int = 100_000_000
    processed_pixels: int = 64_000_000
    queued: int = 1000
    tries: int = 3
    runs: int = 10
    job_seconds: float = 3600.0
    worker_bytes: int | None = None
    cancel_seconds: float = 10.0
    stop_seconds: float = 5.0
    retention_seconds: float = 7 * 86400.0
    disk_bytes: int = 50 * 1024 * MIB
    batch: int = 8
    requests_per_minute: int = 6000
    wrong_keys_per_minute: int = 10
    owner_queued: int | None = None
    owner_images_per_day: int | None = None
    streams: int = 256
    body_seconds: float = 30.0
    answer_seconds: float = 600.0
    url_bytes: int = 32 * MIB
    url_seconds: float = 20.0
    url_redirects: int = 3

    def __post_init__(self) -> None:
        for entry in dataclasses.fields(self):
            value = getattr(self, entry.name)
            low = 0 if entry.name in ("url_redirects", "retention_seconds") else 1e-3
            if value is not None and not low <= value < float("inf"):
                raise InputError(entry.name, repr(value), "a positive number")


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Everything a server and its workers need to know.

    Attributes:
        data_dir: folder of the queue and of all files of jobs; belongs to one server at a time.
        model: what ``DepthAnything3.from_pretrained`` takes.
        devices: one worker process each.
        dtype: precision, as for ``DepthAnything3``.
        preload: load the model when the server starts rather than with the first job.
        predictor: ``module:class`` of what runs jobs, see :class:`depth_anything_3.serve.predictors.Predictor`.
        host, port: where to listen.
        roots: folders under which paths of clients are read and written. Empty: none.
        hosts: names by which clients reach this server, beside ``host`` and those of the loopback.
        keys_file: of API keys, see :mod:`depth_anything_3.serve.keys`; None for none.
        origins: web pages of these origins may use the server (CORS). Empty: none.
        allow_urls: fetch images from public addresses where a client names a URL.
        limits: see :class:`Limits`.

    Raises:
        InputError: it would listen to other machines without API keys.
    """

    data_dir: str
    model: str = "bundled"
    devices: tuple[str, ...] = ("auto",)
    dtype: str = "auto"
    preload: bool = False
    predictor: str = "depth_anything_3.serve.predictors:ModelPredictor"
    host: str = "127.0.0.1"
    port: int = 8008
    roots: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    keys_file: str | None = None
    origins: tuple[str, ...] = ()
    allow_urls: bool = False
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not self.devices:
            raise InputError("devices", "none", "at least one device")
        if self.host not in LOOPBACK and self.keys_file is None:
            expected = f"one of {', '.join(LOOPBACK)}, or --keys FILE so that clients must show an API key"
            raise InputError("host", repr(self.host), expected)
        if "*" in self.origins:
            raise InputError("origins", "'*'", "origins such as https://example.org, by name")

    @property
    def slots(self) -> dict[str, str]:
        """Name of each worker -> its device."""
        return {f"{index}-{device.replace(':', '')}": device for index, device in enumerate(self.devices)}

    def to_json(self) -> str:
        """One line that :meth:`from_json` reads, for the worker processes."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ServerSettings:
        """What :meth:`to_json` wrote."""
        values: dict[str, Any] = json.loads(text)
        values |= {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        values["limits"] = Limits(**values["limits"])
        return cls(**values)
