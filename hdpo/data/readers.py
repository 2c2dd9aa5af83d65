"""Rows of a problem file, streamed: JSON lines, JSON arrays, CSV with , ; or tab, Parquet, text packed with gzip, and a
folder of shards of one set.

A row travels with its place as a sentence may name it ("Line 3 of mine.csv"). What is broken is refused by that place,
with the true reason and a way out. pyarrow is imported only where Parquet is read.
"""

import csv
import gzip
import itertools
import json
import math
import os
import re
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import NoneType
from typing import Any

from hdpo.errors import BadInput, brief

Row = dict[str, object]
Rows = Iterator[tuple[str, Row]]

LONGEST_INTEGER = 4000  # digits; Python converts up to 4,300, and what is longer stays text
LONGEST_LINE = 2**28  # characters; an array of a whole set may stand on one
LARGEST = 5 * 10**8  # characters that a packed file may hold: a small one can hold a million times its size
MOST_LINES = 5 * 10**6  # of such a file
LONGEST_CELL = 2**31 - 1  # characters, all that a C long holds everywhere; some solutions pass csv's usual 131,072
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_CSV_HINTS = {
    "unexpected end of data": "a double quote is opened and never closed; close it",
    "expected after": "a double quote stands inside a quoted cell; write it twice",
}


def file_rows(path: Path) -> Rows:
    """Every row of a file, or of the shards of a folder in the order of their numbers. Raises BadInput where there is none."""
    path = Path(path).expanduser()
    if os.path.isdir(path):
        return itertools.chain.from_iterable(map(file_rows, _shards(path)))
    reader = _reader(path)
    if reader is None:
        raise BadInput(f"{path.name} should end in {SUFFIXES}; convert it to one of these.")
    if not os.path.isfile(path):
        raise BadInput(f"There is no file {path}; check the path, or take bundled:steep.")
    return reader(path)


def _reader(path: Path) -> Callable[[Path], Rows] | None:
    name = path.name.lower()
    plain = name.removesuffix(".gz")
    reader = READERS.get(Path(plain).suffix)
    return None if reader is _parquet_rows and plain != name else reader


def _shards(folder: Path) -> list[Path]:
    """The problem files of a folder, where they are the numbered parts of one set."""
    files = [p for p in folder.iterdir() if _reader(p) and p.is_file() and not p.name.startswith(".")]
    sets = {re.sub(r"[0-9]+", "#", p.name) for p in files}
    if len(sets) != 1:
        names = ", ".join(sorted(p.name for p in files)[:6]) or f"none that ends in {SUFFIXES}"
        parts = f"expected the numbered parts of one set in it (part-0.jsonl, part-1.jsonl), found {names}"
        raise BadInput(f"{folder} is a folder: {parts}. Give one file, or a folder that holds the parts alone.")
    return sorted(files, key=lambda p: [int(n) for n in re.findall(r"[0-9]{1,18}", p.name)])


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number from 1, text) with line ends kept, those of old Macs too; a byte order mark at the start is dropped."""
    number, size, again = 0, 0, "save the file as UTF-8 and read it again"
    packed = path.suffix.lower() == ".gz"
    opened = gzip.open if packed else open
    try:
        with opened(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            for number, line in enumerate(iter(partial(file.readline, LONGEST_LINE), ""), 1):
                size += len(line)
                if len(line) == LONGEST_LINE or packed and (size > LARGEST or number > MOST_LINES):
                    all_in_all = f"{LARGEST:,} and {MOST_LINES:,} lines in all where it is packed"
                    most = f"at most {LONGEST_LINE:,} characters a line, {all_in_all}"
                    way = f"found more at line {number:,}. Unpack it, or cut it into parts"
                    raise BadInput(f"{path.name} is too large: expected {most}, {way}.")
                if not line.isascii():
                    line.encode()  # bytes that are no UTF-8 were escaped to halves of surrogate pairs
                if "\0" in line:
                    raise BadInput(f"Line {number} of {path.name} holds a zero byte, which no text has; {again}.")
                yield number, line
    except UnicodeEncodeError as error:
        place = len(error.object[: error.start].encode("utf-8", "surrogateescape")) + 1
        found = f"is not UTF-8 (byte {place} of the line)"
        raise BadInput(f"Line {number} of {path.name} {found}; {again}.") from error
    except (OSError, EOFError, zlib.error) as error:
        found = f"cannot be read beyond line {number} ({brief(error)})"
        raise BadInput(f"{path.name} {found}; check that it may be read, or copy it again.") from error


def _whole(digits: str) -> int | str:
    return int(digits) if len(digits) <= LONGEST_INTEGER else digits


def kind_of(value: object) -> str:
    """What a cell holds, as a sentence may name it.

    >>> [kind_of(v) for v in (True, None, [1], {}, 1e400, float("nan"), "a")]
    ['true', 'null', 'a list', 'an object', 'infinity', 'NaN', 'text']
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "infinity" if value > 0 else "minus infinity"
    kinds = {NoneType: "null", list: "a list", dict: "an object", str: "text", bytes: "bytes", int: "a number"}
    return kinds.get(type(value), f"a {type(value).__name__}")


def _parsed(text: str, place: str, way_out: str) -> Any:
    try:
        return json.loads(text, parse_int=_whole)
    except (json.JSONDecodeError, RecursionError) as error:
        raise BadInput(f"{place} is not a complete JSON object or array ({brief(error)}); {way_out}.") from error


def _object(row: object, place: str, way_out: str) -> tuple[str, Row]:
    if not isinstance(row, dict):
        raise BadInput(f"{place} should be a JSON object with columns, found {kind_of(row)}; {way_out}.")
    return place, row


def _jsonl_rows(path: Path, way_out: str = "mend or remove the line; a file that is one array ends in .json") -> Rows:
    for number, line in _lines(path):
        place = f"Line {number} of {path.name}"
        if line.strip():
            yield _object(_parsed(line, place, way_out), place, way_out)


def _json_rows(path: Path) -> Rows:
    """An array of objects, read whole; or, as many files of that name are, one object a line."""
    way_out = "write one array of objects, or one object a line"
    lines = (line for _, line in _lines(path) if line.strip())
    first = next(lines, "")
    if not first.lstrip().startswith("["):
        yield from _jsonl_rows(path, way_out)
        return
    for number, row in enumerate(_parsed("".join((first, *lines)), path.name, way_out), 1):
        yield _object(row, f"Item {number} of {path.name}", way_out)


def _csv_rows(path: Path) -> Rows:
    """The separator is the one that makes most columns of the header: comma, semicolon or tab."""
    csv.field_size_limit(LONGEST_CELL)
    lines = _lines(path)
    above, first = next(((number - 1, line) for number, line in lines if line.strip()), (0, ""))
    separator = max(_SEPARATORS, key=lambda mark: len(next(csv.reader([first], delimiter=mark), [])))
    reader = csv.reader(itertools.chain([first], (line for _, line in lines)), delimiter=separator, strict=True)
    header: list[str] = []
    before = above  # lines before the row that is being read
    try:
        for cells in reader:
            place, before = f"Line {before + 1} of {path.name}", above + reader.line_num
            if not header:
                header = [name.strip() for name in cells]
                if twice := [name for name in header if name and header.count(name) > 1]:
                    raise BadInput(f"{path.name} has two columns {brief(twice[0])}; rename or remove one of them.")
            elif any(cell.strip() for cell in cells[len(header) :]):
                quote = f"put fields that contain {_SEPARATORS[separator]} in double quotes"
                raise BadInput(f"{place} has more fields than the header; {quote}.")
            elif cells:
                yield place, dict(zip(header, cells, strict=False))
    except csv.Error as error:
        hint = next((hint for words, hint in _CSV_HINTS.items() if words in str(error)), "mend or remove the row")
        row = f"The row from line {before + 1} of {path.name} on"
        raise BadInput(f"{row} is broken CSV ({brief(error)}): {hint}.") from error


def _parquet_rows(path: Path) -> Rows:
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            rows = (row for batch in file.iter_batches(batch_size=1024) for row in batch.to_pylist())
            for number, row in enumerate(rows, 1):
                yield f"Row {number} of {path.name}", row
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        found = f"cannot be read as Parquet after row {number} ({brief(error)})"
        raise BadInput(f"{path.name} {found}; it may be cut off: copy it again.") from error


READERS = {".jsonl": _jsonl_rows, ".json": _json_rows, ".csv": _csv_rows, ".tsv": _csv_rows, ".parquet": _parquet_rows}
SUFFIXES = ", ".join(READERS) + " (text also as .gz)"
