"""A row's cells → the fields of a problem, all text: by the names that well-known sets use, or by a mapping.

A cell is text or a number. Anything else (a list, null, true, infinity, an object) is no answer, and is named for what
it is. A column inside an object is written with a point: reward_model.ground_truth.
"""

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from hdpo.config import NEXT_COLUMN
from hdpo.data.readers import Row, Rows, kind_of
from hdpo.errors import BadInput, brief

Fields = dict[str, str]

REQUIRED = ("text", "answer")
WORDS = {"text": "problem text", "answer": "gold answer", "solution": "worked solution"}  # what a problem may need
# Of each field the first name that a row has counts; letter case is ignored. Ours; OpenMathInstruct-2, MATH-500, GSM8K,
# AIME; DAPO and other sets in verl's form.
NAMES = {
    "text": ("text", "problem", "question", "prompt"),
    "solution": ("generated_solution", "solution"),
    "answer": ("expected_answer", "reward_model.ground_truth", "answer", "final_answer"),
    "source": ("source", "problem_source", "subject", "data_source"),
    "level": ("level",),
    "id": ("id", "unique_id"),
}
LOOKAHEAD = 1000  # rows, at most, after which the columns of a set are known
EXAMPLE = "text=problem,solution=worked,answer=final"
_AMOUNT = re.compile(r"-?\\?\$?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?")


class Source(NamedTuple):
    """A set's rows, not yet read; how sentences call it; how made ids and sources begin; and where the fields stand:
    ours → the set's, None goes by NAMES."""

    rows: Rows
    name: str
    stem: str
    mapping: Mapping[str, str] | None


def fields_of(of: Source) -> Iterator[tuple[str, Fields, Fields]]:
    """(place, every field, "" where there is none, what is wrong with those of WORDS, as the end of a sentence) of each
    row. That a worked solution is lacking is no wrong of a set without any.

    Raises BadInput for a set without rows, columns that are not known by name, and a mapping that does not fit.
    """
    rows, solutions, final_lines = _recognise(of)
    for place, row in rows:
        raw = cells(row, of.mapping)
        answer = _answer_alone(raw)
        if answer and (final_lines or "####" in answer):
            raw = {"source": "gsm8k", **raw, **final_line(answer)}
        read = {name: as_text(raw.get(name, "")) for name in NAMES}
        fields = {name: text for name, (text, _) in read.items()}
        wrong = {name: _wrong(what, read[name][1]) for name, what in WORDS.items() if not fields[name]}
        if not solutions:
            wrong.pop("solution", None)
        if final_lines and "answer" in wrong:
            wrong["answer"] += " behind ####"
        yield place, {**fields, "source": fields["source"] or of.stem}, wrong


def _wrong(what: str, kind: str) -> str:
    if kind in ("", "null", "NaN"):  # the ways in which tables write a gap
        return f"has no {what}" + f" ({kind})" * bool(kind)
    return f"has {kind} as its {what}, where text or a number is expected"


def _recognise(of: Source) -> tuple[Rows, bool, bool]:
    """(the rows from the first on; whether the set has worked solutions; whether they stand in the answers, as in GSM8K,
    before a last line `#### 18`). Looks no further than it must, and never beyond LOOKAHEAD rows: a first row that lacks
    something decides nothing."""
    head: list[tuple[str, Row]] = []
    found: set[str] = set()
    worked = solved = False
    for place, row in itertools.islice(of.rows, LOOKAHEAD):
        raw = cells(row, of.mapping)
        head.append((place, row))
        found |= raw.keys()
        worked, solved = "####" in _answer_alone(raw), bool(as_text(raw.get("solution", ""))[0])
        if worked or solved and found.issuperset(REQUIRED):
            break
    if not head:
        raise BadInput(f"{of.name} has no rows; a problem file needs at least one problem.")
    columns = brief(", ".join(sorted({column.strip() for _, row in head for column in row})), 400)
    if of.mapping is None and not found.issuperset(REQUIRED):
        known = f"known by name (a text: {', '.join(NAMES['text'])}; an answer: {', '.join(NAMES['answer'])})"
        none = f"{of.name} has the columns {columns}, which are none that are {known}"
        raise BadInput(f"{none}. Name them with --columns, for example {example_of([row for _, row in head])}.")
    mapping = of.mapping or {}
    unknown, absent = sorted(mapping.keys() - NAMES), [field for field in REQUIRED if mapping and field not in mapping]
    if unknown or absent:
        wrong = f"unknown: {', '.join(unknown)}" if unknown else f"not given: {', '.join(absent)}"
        form = f"needs {' and '.join(REQUIRED)} and may have solution, source, level, id ({wrong})"
        raise BadInput(f"A column mapping {form}. Write it as {EXAMPLE}.")
    if missing := ", ".join(sorted(column for field, column in mapping.items() if field not in found)):
        raise BadInput(f"{of.name} has no column {missing}; its columns are {columns}. Mend the mapping, as {EXAMPLE}.")
    return itertools.chain(head, of.rows), worked or solved, worked


class Offer(NamedTuple):
    """Which column of a set may be which field: its columns, and ours → its, of the fields that are known by name."""

    columns: tuple[str, ...]
    known: dict[str, str]


def offer(rows: Iterable[Row]) -> Offer:
    """Of a set's first rows.

    >>> offer([{"Question": "1+1", "Result": 2, "Level": 1}])
    Offer(columns=('Question', 'Result', 'Level'), known={'text': 'Question', 'level': 'Level'})
    """
    columns = list(dict.fromkeys(column.strip() for row in rows for column in row))
    at = {column.lower(): column for column in columns}
    known = {}
    for field, names in NAMES.items():
        if name := next((n for n in names if n.partition(".")[0] in at), ""):
            outer, point, inner = name.partition(".")
            known[field] = f"{at[outer]}{point}{inner}"
    return Offer(tuple(dict.fromkeys([*columns, *known.values()])), known)


def example_of(rows: Sequence[Row]) -> str:
    """A mapping with this set's own columns: of those not known by name the two with the longest cells for text and solution,
    in their order, the last one for the answer. A column of numbers is neither text nor solution.

    >>> example_of([{"Nr": 1, "Aufgabe": "How many?", "Weg": "1+1=2 so 2", "Ergebnis": "2"}])
    'text=Aufgabe,solution=Weg,answer=Ergebnis'
    """
    columns, known = offer(rows)
    free = [c for c in columns if c not in known.values() and not NEXT_COLUMN.search(c)]
    length = {c: sum(len(str(row.get(c, ""))) for row in rows) for c in free}
    answer = known.get("answer") or next(reversed(free), "")
    worded = [c for c in free if not all(_AMOUNT.fullmatch(str(row.get(c, ""))) for row in rows)]
    long = sorted((c for c in worded if c != answer), key=lambda c: -length[c])
    left = [f for f in ("text", "solution") if f not in known]
    guessed = dict(zip(left, sorted(long[: len(left)], key=free.index), strict=False)) | {"answer": answer}
    found = {f: c for f in ("text", "solution", "answer") if (c := known.get(f) or guessed.get(f))}
    return ",".join(f"{field}={column}" for field, column in found.items()) if found.keys() >= {*REQUIRED} else EXAMPLE


def cells(row: Row, mapping: Mapping[str, str] | None) -> Row:
    """Our field → the row's cell, for the fields that the row has a column for."""
    known = mapping is None
    at = {column.strip().lower() if known else column.strip(): value for column, value in row.items()}
    found: Row = {}
    for field, columns in (NAMES if mapping is None else {f: (c,) for f, c in mapping.items()}).items():
        for cell in itertools.chain.from_iterable(_at(at, column) for column in columns):
            if found.get(field) is None:
                found[field] = cell
    if known and "reward_model" in at and found.get("solution") == found.get("answer"):
        found.pop("solution", None)  # in DAPO's copies the column holds the final answer once more
    return found


def _at(row: Row, column: str) -> list[object]:
    """The one cell, or none.

    >>> _at({"reward_model": {"ground_truth": "34"}}, "reward_model.ground_truth")
    ['34']
    """
    if column in row:
        return [row[column]]
    outer, point, inner = column.partition(".")
    inside = row.get(outer)
    return _at(inside, inner) if point and isinstance(inside, dict) else []


def _answer_alone(raw: Row) -> str:
    """The answer's text where no solution stands beside it: it may be worked, with its final line behind ####."""
    answer = raw.get("answer")
    return answer if isinstance(answer, str) and not raw.get("solution") else ""


def final_line(worked: str) -> Row:
    """Solution and answer of GSM8K's worked text: calculator marks go, and the line behind the last #### becomes a boxed
    final sentence. A comma is a thousands mark only between groups of three digits.

    >>> final_line("1+1=<<1+1=2>>2\\n#### 2")["solution"]
    '1+1=2\\nThe answer is \\\\boxed{2}.'
    >>> [final_line(f"#### {line}")["answer"] for line in ("$1,234.50", "0,1", "18\\nDone.")]
    ['1234.50', '0,1', '18']
    """
    steps, mark, behind = worked.rpartition("####")
    answer = (behind.strip().splitlines() or [""])[0].strip() if mark else ""
    if _AMOUNT.fullmatch(answer):
        answer = re.sub(r"[,$\\]", "", answer)
    steps = re.sub(r"<<[^>]*>>", "", steps).strip()
    return {"answer": answer, "solution": f"{steps}\nThe answer is \\boxed{{{answer}}}."}


def as_text(value: object) -> tuple[str, str]:
    """(a cell as text, what it is where it is neither text nor number). Numbers are written out, whole ones without a
    point: a column of integers with gaps is often stored as floats.

    >>> as_text(18.0), as_text(1e-07), as_text(Decimal("2.50")), as_text(["18"])
    (('18', ''), ('0.0000001', ''), ('2.5', ''), ('', 'a list'))
    """
    value = _user_turn(value)
    if isinstance(value, str):
        return value.strip(), ""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value), ""
    if isinstance(value, float) and math.isfinite(value):
        value = Decimal(repr(value))
    if isinstance(value, Decimal) and value.is_finite():
        text = format(value, "f") if value else "0"
        return text.rstrip("0").rstrip(".") if "." in text else text, ""
    return "", kind_of(value)


def _user_turn(value: object) -> object:
    """The text of a prompt that is a list of messages: what the system says, if anything, and the user's one turn."""
    if not (isinstance(value, list) and all(isinstance(turn, dict) for turn in value)):
        return value
    roles = [turn.get("role") for turn in value]
    texts = [turn.get("content") for turn in value]
    alone = roles in (["user"], ["system", "user"]) and all(isinstance(text, str) for text in texts)
    return "\n\n".join(texts) if alone else value
