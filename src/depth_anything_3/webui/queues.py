"""Job queues of the server, one per model, opened when first needed. One model is loaded at a time where possible."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from pathlib import Path

from depth_anything_3.serve.jobs import JobQueue
from depth_anything_3.serve.settings import ServerSettings

_MOST_OPEN = 2


class ModelQueues:
    """The queues of the models that were chosen, the last used last.

    Use it as a context manager; leaving ends all workers.

    Args:
        data_dir: folder of the queues and of all files of jobs.
        device, dtype: for every worker.
        gallery_dir: folder below which results may also be kept; None for none.
        predictor: what runs jobs, see :class:`~depth_anything_3.serve.settings.ServerSettings`; None for the default.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        device: str = "auto",
        dtype: str = "auto",
        gallery_dir: Path | None = None,
        predictor: str | None = None,
    ) -> None:
        self._data_dir, self._device, self._dtype, self._predictor = data_dir, device, dtype, predictor
        self._roots = () if gallery_dir is None else (str(gallery_dir.resolve()),)
        self._open: OrderedDict[str, JobQueue] = OrderedDict()
        self._lock = threading.Lock()

    def __enter__(self) -> ModelQueues:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            while self._open:
                self._open.popitem()[1].__exit__()

    def of(self, model: str) -> JobQueue:
        """The queue of a model; opening a third one closes the one unused for longest, if it has nothing to do."""
        with self._lock:
            if model not in self._open:
                self._close_idle()
                self._open[model] = JobQueue(self._settings(model)).__enter__()
            self._open.move_to_end(model)
            return self._open[model]

    def _close_idle(self) -> None:
        for model, queue in list(self._open.items()):
            busy = any(queue.find(status=status, limit=1) for status in ("queued", "running"))
            if len(self._open) >= _MOST_OPEN and not busy:
                self._open.pop(model).__exit__()

    def _settings(self, model: str) -> ServerSettings:
        name = hashlib.sha256(model.encode()).hexdigest()[:12]
        chosen = {} if self._predictor is None else {"predictor": self._predictor}
        return ServerSettings(
            data_dir=str(self._data_dir / name),
            model=model,
            devices=(self._device,),
            dtype=self._dtype,
            roots=self._roots,
            **chosen,  # type: ignore[arg-type]
        )
