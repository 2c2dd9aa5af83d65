"""Files that survive a crash and may be read while they are written: whole or not at all, or line by line.

A text or a table is written beside and renamed. A log is only ever appended to, so a reader that remembers how far it
came reads what is new: a page that looks each second at a run of 5,000 steps parses one line, not 5,000.
"""

import json
import os
import shutil
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from hdpo.errors import BadInput, HdpoError
from hdpo.record.shapes import is_row

LOGS_REMEMBERED = 100
SEEN = 64  # bytes before the place where reading stopped, by which a log is known again


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What the system says against it, as a sentence. Raises HdpoError: the disk is full, the folder read only."""
    try:
        yield
    except (OSError, SafetensorError) as e:  # a full disk is either's, by who was writing
        found = f"expected to write to {path.parent}, found '{getattr(e, 'strerror', '') or e}'"
        way = "Free some space or choose another folder with HDPO_RUNS, then resume from the last checkpoint."
        raise HdpoError(f"{path.name}: {found}. {way}") from e


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """Whole or not at all: where to write a file or make a folder, which is renamed to `path` after the block."""
    aside, old = (path.with_name(f".{path.name}{mark}.{os.getpid()}.tmp") for mark in ("", ".old"))
    with writing(path):
        try:
            yield aside
            if not path.is_dir():
                os.replace(aside, path)
                return
            os.replace(path, old)  # a folder gives way to no other, and must not be gone before that has its name
            try:
                os.replace(aside, path)
            except OSError:
                os.replace(old, path)
                raise
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(aside, ignore_errors=True) if aside.is_dir() else aside.unlink(missing_ok=True)


def write_aside(path: Path, text: str) -> None:
    """Flushed to the disk before it is renamed."""
    with beside(path) as aside, aside.open("w", encoding="utf-8") as f:
        f.write(text)
        f.flush()
        os.fsync(f.fileno())


def append_line(path: Path, row: Mapping[str, Any]) -> None:
    with writing(path), path.open("a", encoding="utf-8") as f:
        f.write(json.dumps(row, allow_nan=False) + "\n")


@dataclass
class _Log:
    """What was read of a log: its inode, up to which byte, the last bytes before it, and what stood there."""

    inode: int = -1
    end: int = 0
    seen: bytes = b""
    lines: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    torn: bool = False


_logs: OrderedDict[Path, _Log] = OrderedDict()
_lock = threading.Lock()


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Whole lines only; a torn or broken one is left out (`broken_lines` counts those). The rows are shared: not yours
    to change."""
    with _lock:
        return list(_log(path).rows)


def broken_lines(path: Path) -> int:
    with _lock:
        log = _log(path)
        return log.lines - len(log.rows) + int(log.torn)


def _log(path: Path) -> _Log:
    """Go on reading where the last reader of this log stopped; from the start where it is not the same log any more."""
    log = _logs.pop(path, _Log())
    try:
        with path.open("rb") as f:
            f.seek(max(0, log.end - len(log.seen)))
            if (os.fstat(f.fileno()).st_ino, f.read(len(log.seen))) != (log.inode, log.seen):
                f.seek(0)
                log = _Log(os.fstat(f.fileno()).st_ino)
            whole, newline, rest = f.read().rpartition(b"\n")
    except OSError:
        return _Log()
    for line in whole.split(b"\n") if newline else ():
        log.lines += 1
        with suppress(ValueError, RecursionError):
            if is_row(row := json.loads(line)):
                log.rows.append(row)
    log.torn, log.end = bool(rest), log.end + len(whole + newline)
    log.seen = (log.seen + whole + newline)[-SEEN:]
    _logs[path] = log
    if len(_logs) > LOGS_REMEMBERED:
        _logs.popitem(last=False)
    return log


def cut_torn_line(path: Path) -> None:
    """Before appending again: drop what a crash left after the last newline."""
    if path.exists():
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as e:
        found = f"expected a whole JSON file, found {type(e).__name__}"
        raise BadInput(f"{path.name}: {found}. The file is missing or cut off.") from None


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    import pyarrow.parquet

    with beside(path) as aside:
        table = pyarrow.Table.from_pylist([dict(r) for r in rows])
        pyarrow.parquet.write_table(table, aside, compression="zstd")


def read_table(path: Path) -> list[dict[str, Any]]:
    """Rows of a closed table; a damaged file gives none (`Run.damage` names it)."""
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(path).read().to_pylist()
    except (OSError, ValueError, pyarrow.ArrowException):  # a name that is no UTF-8 is a ValueError
        return []


def readable_table(path: Path) -> bool:
    """Whether a table is whole; asked again only when the file has changed."""
    try:
        facts = path.stat()
        return _readable(path, facts.st_size, facts.st_mtime_ns)
    except OSError:  # not remembered: a disk can come back
        return False


@lru_cache(maxsize=50_000)
def _readable(path: Path, size: int, changed: int) -> bool:
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(path).metadata is not None
    except (ValueError, pyarrow.ArrowException):
        return False
