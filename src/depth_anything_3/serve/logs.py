"""Log lines that machines read: one JSON object each, without secrets, headers or bodies."""

from __future__ import annotations

import json
import logging
import sys
import time

_FIELDS = (
    "method",
    "route",
    "status",
    "milliseconds",
    "client",
    "key",
    "request",
    "job",
    "slot",
    "exit_code",
    "error",
)


class JsonFormatter(logging.Formatter):
    """One line of JSON per record; only the fields that are known here are taken from ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        """The line. JSON escapes line breaks, so that nobody can forge a second one."""
        entry: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        entry |= {name: getattr(record, name) for name in _FIELDS if hasattr(record, name)}
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def configure(level: str = "INFO") -> None:
    """Send the package's log to standard error in this form; for programs, not for libraries."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    for name in ("depth_anything_3", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level)
        logger.propagate = False
