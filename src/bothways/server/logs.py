"""What a server writes to standard error, as lines for people or as JSON for programs."""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from bothways.server.settings import Settings

__all__ = ["JsonFormatter", "log", "log_config"]

log = logging.getLogger("bothways.server")

#: Fields of a record beside its message.
_FIELDS = ("request_id", "model", "status", "texts", "tokens", "milliseconds")


class JsonFormatter(logging.Formatter):
    """A record as a JSON object in a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        line: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: getattr(record, name) for name in _FIELDS if hasattr(record, name)}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def log_config(settings: Settings) -> dict[str, Any]:
    """The configuration of Python's logging."""
    level = settings.log_level.upper()
    # uvicorn's own lines say what ours say; its errors are kept.
    quiet = level if level in ("DEBUG", "ERROR") else "WARNING"
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "text": {"format": "%(asctime)s %(levelname)s %(message)s"},
            "json": {"()": JsonFormatter},
        },
        "handlers": {
            "standard_error": {
                "class": "logging.StreamHandler",
                "formatter": settings.log_format,
                "stream": "ext://sys.stderr",
            }
        },
        "loggers": {
            "bothways": {"handlers": ["standard_error"], "level": level, "propagate": False},
            "uvicorn": {"handlers": ["standard_error"], "level": quiet, "propagate": False},
        },
    }
