"""Problem files → `Problem` records: JSONL, CSV and Parquet readers, the split, and the bundled sets.

Files are streamed: what is held is the problems kept and eight bytes for every other text seen. Train and validation
are told apart by a seeded hash of the normalised text, so a problem lands on the same side in every file, order and
copy, and duplicates stay together. Nothing here imports torch or transformers; pyarrow only where Parquet is read.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from hdpo.assets import ASSETS
from hdpo.data.hub import hub_rows
from hdpo.errors import BadInput
from hdpo.hub import is_hub_id
from hdpo.records import Problem

Row = dict[str, object]
Split = Literal["train", "validation"]
# A format turns one row into (text, solution, answer, source, level, id), all text; "" where there is none.
Fields = dict[str, str]

BUNDLED_SETS = ASSETS / "problems"
FIELDS = ("text", "solution", "answer", "source", "level", "id")
REQUIRED = ("text", "solution", "answer")
OWN = {name: name for name in FIELDS}
MATH = {
    "text": "problem",
    "solution": "solution",
    "answer": "answer",
    "source": "subject",
    "level": "level",
    "id": "unique_id",
}
OPEN_MATH_INSTRUCT_2 = {
    "text": "problem",
    "solution": "generated_solution",
    "answer": "expected_answer",
    "source": "problem_source",
}
BUNDLED = "bundled:"
ENDLESS = {"nvidia/OpenMathInstruct-2"}
MIXES = ("steep", "gentle")
SPLITS = ("train", "validation", "test")
_CALCULATOR_MARK = re.compile(r"<<[^>]*>>")


@dataclass(frozen=True)
class ProblemFile:
    """What reading gave. `read` counts rows up to where reading stopped; `skipped` has one sentence a row left out."""

    problems: tuple[Problem, ...]
    read: int
    duplicates: int
    skipped: tuple[str, ...]


def normalise(text: str) -> str:
    """
    >>> normalise("  What  is\\n１+1? ")
    'what is 1+1?'
    """
    return " ".join(unicodedata.normalize("NFKC", text).lower().split())


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def split_of(text: str, seed: int = 42, validation: float = 0.05) -> Split:
    """The side of a problem text: a share `validation` of all texts is validation, whatever file they stand in.

    >>> split_of("What is 1+1?") == split_of(" what is  1+1? ")
    True
    """
    if not 0 <= validation <= 1:
        raise BadInput(f"The validation share must lie between 0 and 1, found {validation}; the default is 0.05.")
    place = int.from_bytes(_digest(f"{seed}\n{normalise(text)}"), "big") / 2**64
    return "validation" if place < validation else "train"


def train_validation(
    problems: Iterable[Problem], seed: int = 42, validation: float = 0.05
) -> tuple[tuple[Problem, ...], tuple[Problem, ...]]:
    """Both sides of `split_of`, order kept."""
    sides: dict[str, list[Problem]] = {"train": [], "validation": []}
    for problem in problems:
        sides[split_of(problem.text, seed, validation)].append(problem)
    return tuple(sides["train"]), tuple(sides["validation"])


def read_problems(path: Path, mapping: Mapping[str, str] | None = None, limit: int | None = None) -> ProblemFile:
    """Every problem of a file, in its order; reading stops after `limit` distinct problems.

    mapping: our field → the file's column, for files whose columns are not known by name. A row without text,
    solution or answer is skipped and told; of equal normalised texts the first is kept.

    Raises BadInput for a missing or empty file, an unknown suffix, a broken line, a wrong encoding, unknown columns,
    and where not one row is usable.
    """
    _check_limit(limit)
    path = Path(path)
    return _read(_rows(path), path.name, path.stem, mapping, limit, lambda text, source: True)


def load_problems(
    source: str,
    split: str,
    mapping: Mapping[str, str] | None = None,
    limit: int | None = None,
    seed: int = 42,
    validation: float = 0.05,
    sources: Sequence[str] = (),
) -> ProblemFile:
    """`source` is "bundled:steep", "bundled:gentle", a path, or a hub id; `split` is train, validation, all, or test.

    The sides of a file or a hub set are made by `split_of`, all is the whole of it, and test is refused. The bundled
    sets bring their own splits; their test problems are for the model card alone, so all is train and validation.
    sources: where given, only problems of these count. A hub set is read in an order seeded by `seed`, up to the limit.
    """
    _check_limit(limit)
    if source.startswith(BUNDLED):
        if mapping:
            raise BadInput(f"{source} is a bundled set and takes no column mapping; leave the mapping out.")
        mix = source.removeprefix(BUNDLED)
        names = ("train", "validation") if split == "all" else (split,)
        problems = tuple(p for name in names for p in bundled(mix, name) if not sources or p.source in sources)[:limit]
        if not problems:
            raise BadInput(
                f"sources: expected some of the families of {source}, found {', '.join(sources)}. Leave it empty for all."
            )
        return ProblemFile(problems, len(problems), 0, ())
    if split not in ("train", "validation", "all"):
        raise BadInput(
            f"A problem file has the splits train, validation and all, found {split!r}; choose one of these."
        )

    def wanted(text: str, of: str) -> bool:
        return (not sources or of in sources) and (split == "all" or split_of(text, seed, validation) == split)

    if is_hub_id(source):
        if source in ENDLESS and limit is None:
            raise BadInput(
                f"limit: expected how many problems of {source} to take, since it has millions, found none. Give --limit 50000."
            )
        name = source.partition("/")[2]
        found = _read(hub_rows(source, seed), source, name, mapping, limit, wanted)
    else:
        path = Path(source)
        found = _read(_rows(path), path.name, path.stem, mapping, limit, wanted)
    if not found.problems:
        of = f" and comes from {', '.join(sources)}" if sources else ""
        raise BadInput(f"None of the {found.read} problems in {source} falls into {split}{of}; choose the split all.")
    return found


def bundled(mix: str, split: str) -> tuple[Problem, ...]:
    """One split of a bundled set: "steep" (many cliffs) or "gentle" (few); test is for the model card alone."""
    if mix not in MIXES or split not in SPLITS:
        raise BadInput(
            f"The bundled sets are {' and '.join(BUNDLED + name for name in MIXES)}, each with the splits "
            f"{', '.join(SPLITS)}; found {BUNDLED}{mix} with split {split}. Choose from these, or give a file."
        )
    path = BUNDLED_SETS / mix / f"{split}.jsonl"
    if not path.is_file():
        raise BadInput(
            f"The bundled problems {mix}/{split}.jsonl are missing from {ASSETS}; "
            "make them with `python -m hdpo.organism problems`, or take a complete checkout."
        )
    return read_problems(path).problems


def _read(
    rows: Iterator[tuple[str, Row]],
    name: str,
    stem: str,
    mapping: Mapping[str, str] | None,
    limit: int | None,
    wanted: Callable[[str, str], bool],
) -> ProblemFile:
    """`wanted` sees text and source of each row; rows it refuses are read and not kept."""
    head = next(rows, None)
    if head is None:
        raise BadInput(f"{name} has no rows; a problem file needs at least one problem.")
    fields_of = _format(head[1], mapping, name, stem)
    problems: list[Problem] = []
    skipped: list[str] = []
    seen: set[bytes] = set()
    given_ids: set[str] = set()
    read = duplicates = 0
    for place, row in itertools.chain([head], rows):
        read += 1
        fields = fields_of(row)
        lacking = _lacking(fields)
        if lacking:
            skipped.append(f"{place} of {name} {lacking}; it was left out.")
            continue
        key = _digest(normalise(fields["text"]))
        if key in seen:
            duplicates += wanted(fields["text"], fields["source"])
            continue
        seen.add(key)
        if not wanted(fields["text"], fields["source"]):
            continue
        if fields["id"] and fields["id"] in given_ids:
            raise BadInput(f"{place} of {name} repeats the id {fields['id']!r} of another problem; ids must differ.")
        given_ids.add(fields["id"])
        problems.append(_problem(fields, stem))
        if len(problems) == limit:
            break
    if len(skipped) == read:
        raise BadInput(f"None of the {read} rows of {name} is usable. {skipped[0]}")
    return ProblemFile(tuple(problems), read, duplicates, tuple(skipped))


def _check_limit(limit: int | None) -> None:
    if limit is not None and limit < 1:
        raise BadInput(f"The limit is the number of problems to read, at least 1, found {limit}.")


def _problem(fields: Fields, stem: str) -> Problem:
    digits = re.search(r"\d+", fields["level"])  # "Level 5" and 5 alike
    text_hash = hashlib.blake2b(normalise(fields["text"]).encode()).hexdigest()
    return Problem(
        id=fields["id"] or f"{stem}-{text_hash[:12]}",
        text=fields["text"],
        solution=fields["solution"],
        answer=fields["answer"],
        source=fields["source"],
        level=int(digits.group()) if digits else None,
    )


def _lacking(fields: Fields) -> str:
    """What makes a row unusable, as the end of a sentence; "" for a good row."""
    if not fields["text"]:
        return "has no problem text"
    if not fields["answer"]:
        return "has no gold answer"
    if not fields["solution"]:
        return "has no worked solution"
    try:
        "".join(fields.values()).encode()
    except UnicodeEncodeError:
        return "holds half of a surrogate pair, which is no character"
    return ""


def _format(head: Row, mapping: Mapping[str, str] | None, name: str, stem: str) -> Callable[[Row], Fields]:
    """The format of a file by the columns of its first row, or by the mapping."""
    columns = set(head)
    if mapping is not None:
        _check_mapping(mapping, columns, name)
        return partial(_pick, columns=mapping, default_source=stem)
    for known in (OWN, OPEN_MATH_INSTRUCT_2, MATH):
        if all(known[field] in columns for field in REQUIRED):
            return partial(_pick, columns=known, default_source=stem)
    if {"question", "answer"} <= columns and "####" in _text(head["answer"]):
        return _gsm8k
    raise BadInput(
        f"{name} has the columns {', '.join(sorted(columns))}, which are none that are known by name (text, "
        "solution, answer; or those of OpenMathInstruct-2 or MATH-500; or question and answer with the final answer after ####). "
        "Name them, for example text=problem,solution=worked,answer=final."
    )


def _check_mapping(mapping: Mapping[str, str], columns: set[str], name: str) -> None:
    unknown = sorted(set(mapping) - set(FIELDS))
    absent = [field for field in REQUIRED if field not in mapping]
    missing = sorted(column for column in mapping.values() if column not in columns)
    if unknown or absent:
        wrong = f"unknown: {', '.join(unknown)}" if unknown else f"not given: {', '.join(absent)}"
        raise BadInput(
            f"A column mapping needs {', '.join(REQUIRED)} and may have source, level, id ({wrong}). "
            "Write it as text=problem,solution=worked,answer=final."
        )
    if missing:
        raise BadInput(
            f"{name} has no column {', '.join(missing)}; its columns are {', '.join(sorted(columns))}. "
            "Mend the mapping, for example text=problem,solution=worked,answer=final."
        )


def _text(value: object) -> str:
    """A cell as text. Whole floats lose their point: a column of integers with gaps is often stored as floats."""
    if isinstance(value, float):
        if math.isnan(value):  # how tables write a gap
            return ""
        return str(int(value)) if value.is_integer() else str(value)
    return str(value).strip() if isinstance(value, (str, int)) else ""


def _pick(row: Row, columns: Mapping[str, str], default_source: str) -> Fields:
    """The mapped cells of a row; `default_source` stands where it names no source."""
    fields = {name: _text(row.get(columns[name])) if name in columns else "" for name in FIELDS}
    return {**fields, "source": fields["source"] or default_source}


def _gsm8k(row: Row) -> Fields:
    """GSM8K: calculator marks leave the worked text, and its `#### 1,000` line becomes a boxed final sentence.

    >>> _gsm8k({"question": "1+1?", "answer": "1+1=<<1+1=2>>2\\n#### 2"})["solution"]
    '1+1=2\\nThe answer is \\\\boxed{2}.'
    """
    worked, _, final = _text(row.get("answer")).rpartition("####")
    answer = final.strip().replace(",", "") if worked else ""
    steps = _CALCULATOR_MARK.sub("", worked).strip()
    solution = f"{steps}\nThe answer is \\boxed{{{answer}}}."
    found = {"text": _text(row.get("question")), "solution": solution, "answer": answer, "source": "gsm8k"}
    return {**dict.fromkeys(FIELDS, ""), **found}


def _rows(path: Path) -> Iterator[tuple[str, Row]]:
    """(place, row) of every row, the place as a sentence may name it ("Line 3")."""
    readers = {".jsonl": _jsonl_rows, ".csv": _csv_rows, ".parquet": _parquet_rows}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise BadInput(f"{path.name} should end in {', '.join(readers)}; convert it to one of these.")
    if not path.is_file():
        raise BadInput(f"There is no file {path}; check the path, or take {BUNDLED}steep.")
    return reader(path)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number from 1, text) with line ends kept; a byte order mark at the start is dropped."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            try:
                yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise BadInput(
                    f"Line {number} of {path.name} is not UTF-8 (byte {error.start + 1} of the line); "
                    "save the file as UTF-8 and read it again."
                ) from error


def _jsonl_rows(path: Path) -> Iterator[tuple[str, Row]]:
    for number, line in _lines(path):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise BadInput(
                f"Line {number} of {path.name} is not a complete JSON object ({error}); mend or remove the line."
            ) from error
        if not isinstance(row, dict):
            raise BadInput(
                f"Line {number} of {path.name} should be a JSON object with columns, found {line.strip()[:40]}"
            )
        yield f"Line {number}", row


def _csv_rows(path: Path) -> Iterator[tuple[str, Row]]:
    reader = csv.DictReader((line for _, line in _lines(path)), strict=True)
    try:
        for row in reader:
            if None in row:
                raise BadInput(
                    f"Line {reader.line_num} of {path.name} has more fields than the header; "
                    "put fields that contain commas in double quotes."
                )
            yield f"Line {reader.line_num}", dict(row)
    except csv.Error as error:
        raise BadInput(
            f"Line {reader.line_num} of {path.name} is broken CSV ({error}); look for an unclosed double quote."
        ) from error


def _parquet_rows(path: Path) -> Iterator[tuple[str, Row]]:
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    yield f"Row {number}", row
    except (pyarrow.ArrowException, OSError) as error:
        raise BadInput(
            f"{path.name} cannot be read as Parquet after row {number} ({error}); it may be cut off: copy it again."
        ) from error
