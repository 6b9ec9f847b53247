"""Logs of the whole process on standard error: JSON lines for programs, or text for people."""

from __future__ import annotations

import logging
import sys
import threading
import time
from typing import Any, TextIO

import orjson

from app.observability.timeout import call_with_timeout

# Lines wait this long for others to be written with.
_WRITE_DELAY_S = 0.1


class JsonLines(logging.Formatter):
    """Formats a record as one JSON object; the fields of `extra={"fields": …}` are its own."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update(getattr(record, "fields", {}))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


class TextLines(logging.Formatter):
    """Formats a record as a line for a person: local time, level, message, then its fields."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        words = [time.strftime("%H:%M:%S", time.localtime(record.created))]
        if record.levelno != logging.INFO:
            words.append(record.levelname.lower())
        fields: dict[str, Any] = dict(getattr(record, "fields", {}))
        if {"method", "route", "status", "ms"} <= fields.keys():
            words += [str(fields.pop(name)) for name in ("method", "route", "status")]
            words.append(f"{fields.pop('ms'):.1f} ms")
        else:
            words.append(record.getMessage().replace("\n", "\\n"))
        words += [f"{name}={_value(value)}" for name, value in fields.items()]
        line = " ".join(words)
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _value(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value, default=str).decode()


class BatchingHandler(logging.Handler):
    """Writes to a stream from a thread of its own, all lines that wait in one system call.

    A reader of the log that falls behind, or has stopped, holds up nobody: lines beyond
    `max_waiting` are dropped, and their number is written.

    `logging.handlers.QueueListener` could drop lines too, but it takes records one by one: a
    thread's wake-up and a system call per line were measured at 30 µs of CPU more per request,
    and its `stop` raises `queue.Full` behind a reader that has stopped.

    Args:
        stream: a text stream, such as standard error.
        max_waiting: most lines that wait to be written.
    """

    def __init__(self, stream: TextIO, max_waiting: int = 10_000) -> None:
        super().__init__()
        self.setFormatter(JsonLines())
        self._stream = stream
        self._max_waiting = max_waiting
        self._lines: list[str] = []
        self._dropped = 0
        self._writing = threading.Lock()
        self._filled = threading.Event()
        threading.Thread(target=self._write_repeatedly, name="tessera-log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`; called with its lock held."""
        if len(self._lines) >= self._max_waiting:
            self._dropped += 1
            return
        self._lines.append(self.format(record))
        if not self._filled.is_set():
            self._filled.set()

    def drain(self, timeout_s: float) -> None:
        """Write the lines that wait, and give up after `timeout_s`: their reader may have stopped.

        This is not `flush`, which `logging` calls with the handler's lock held, without a timeout.
        """
        call_with_timeout(timeout_s, self._write)

    def _write_repeatedly(self) -> None:
        while True:
            self._filled.wait()
            self._filled.clear()
            time.sleep(_WRITE_DELAY_S)
            self._write()

    def _write(self) -> None:
        with self._writing:
            self.acquire()
            try:
                lines, self._lines = self._lines, []
                dropped, self._dropped = self._dropped, 0
            finally:
                self.release()
            if dropped:
                lines.append(self.format(_record("lines dropped", {"lines": dropped})))
            if lines:
                try:
                    self._stream.write("\n".join(lines) + "\n")
                    self._stream.flush()
                except (OSError, ValueError):
                    # The stream is closed or the disk is full; the service goes on without a log.
                    return


def _record(message: str, fields: dict[str, Any]) -> logging.LogRecord:
    return logging.makeLogRecord(
        {"name": __name__, "levelno": logging.WARNING, "levelname": "WARNING", "msg": message}
        | {"fields": fields}
    )


def configure_logging(level: str, form: str = "json") -> BatchingHandler:
    """Send the logs of the whole process to standard error.

    Args:
        level: `debug`, `info`, `warning` or `error`.
        form: `json`, one object a line with times in UTC; `text`, lines for people; `auto` is
            text where standard error is a terminal.

    Returns:
        The handler that writes them, to be drained when the process ends.
    """
    handler = BatchingHandler(sys.stderr)
    text = form == "text" or (form == "auto" and sys.stderr.isatty())
    if text:
        handler.setFormatter(TextLines())
        # What ends the process is printed as a line of its own as well.
        handler.addFilter(lambda record: not getattr(record, "printed", False))
        # uvicorn says that it runs before any model is loaded; the service says when it is ready.
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Pillow logs every chunk of every file at debug level.
    logging.getLogger("PIL").setLevel(logging.INFO)
    return handler
