"""Problem files of every format with nasty contents. Property: a sentence, or problems and counts that add up."""

from __future__ import annotations

import csv
import gzip
import io
import json
import string
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pyarrow
import pyarrow.parquet

from hdpo.config import ProblemConfig
from hdpo.data.problems import ProblemFile, load_problems, told
from hdpo.errors import BadInput

Rows = list[dict[str, Any]]

COLUMNS = (
    ("text", "solution", "answer", "source", "level", "id"),
    ("problem", "generated_solution", "expected_answer", "problem_source"),
    ("question", "answer"),
    ("Problem", "Solution", "Answer", "ID"),
    ("prompt", "reward_model", "data_source", "solution"),
    ("q", "w", "a"),
    ("text", "answer", "text ", "a.b", ""),
)
TEXTS = (
    "What is 3²?",
    "What is 32?",
    "f(X) é e\u0301 ﬀ １",
    "a,b;c\td",
    'he said "2"',
    "line\nbreak\r\nand\rmore",
    "\ufeff",
    "\u2028 \x85 \x0b \x1c",
    "\x00",
    "\ud800",
    "{problem} {reference} %s <|im_end|>",
    "=1+1",
    " ",
    "",
    "#### 18\nDone.",
    "1+1=<<1+1=2>>2\n#### $1,234.50",
    "####",
    "0,1",
    "nan",
    "null",
    "\\boxed{2}",
    "[",
    "so " * 50_000,
    "9" * 5000,
    "😀" * 20,
    "e\u0301" * 500,
)
VALUES = (
    18,
    18.0,
    0,
    -0.0,
    1e-07,
    1e22,
    1e300,
    float("inf"),
    float("-inf"),
    float("nan"),
    True,
    False,
    None,
    [],
    ["18"],
    [1, [2]],
    {},
    {"value": "18"},
    {"ground_truth": "34"},
    {"ground_truth": [1]},
    {"ground_truth": None},
    2**63,
    10**4200,
    [{"role": "user", "content": "hi?"}],
    [{"role": "system", "content": "s"}, {"role": "user", "content": "u?"}],
    [{"role": "user"}],
    [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
    [{"role": [1]}],
)
MAPPINGS = (
    *[""] * 20,
    "text=q,answer=a",
    "text=q,answer=a,solution=w",
    "text=question,answer=answer",
    "text=text,answer=a.b",
    "text=prompt,answer=reward_model.ground_truth",
    "text=q",
    "gold=a,text=q,answer=a",
)
ENCODINGS = (*["utf-8"] * 30, "utf-8-sig", "utf-8-sig", "latin-1", "utf-16", "utf-16-le")


def one(rng: Random, folder: Path) -> str:
    """Make one file, read it in two ways. Returns its kind and what came of it; raises where the property breaks."""
    kind, write = rng.choice(KINDS)
    rows = table(rng)
    path = write(rng, folder, rows)
    if rng.random() < 0.2:
        spoil(rng, path)
    other = folder / "other.jsonl"
    other.write_text("".join(json.dumps(row) + "\n" for row in table(rng)[:6] + rows[:2]), "utf-8")
    ends = [
        end_of(lambda: load_problems(whole(rng, path), "all")),
        end_of(
            lambda: load_problems(
                settings(rng, path, other),
                rng.choice((*["train", "validation", "all"] * 9, "test")),
                rng.random() < 0.5,
            )
        ),
    ]
    return f"{kind:16} {ends[0]}, {ends[1]}"


def end_of(read: Callable[[], ProblemFile]) -> str:
    try:
        check(read())
    except BadInput as refusal:
        words = str(refusal)
        assert 20 < len(words) < 2000 and words.isprintable() and words == words.strip(), f"no sentence: {words!r}"
        return "refused"
    return "read"


def check(found: ProblemFile) -> None:
    counts = found.counts()
    parts = ("problems", "duplicates", "skipped", "elsewhere", "overlap")
    assert counts["read"] == sum(counts[part] for part in parts), f"counts do not add up: {counts}"
    assert len({p.id for p in found.problems}) == len(found.problems) > 0, "ids repeat, or no problem"
    for p in found.problems:
        assert p.text.strip() and p.answer.strip() and p.source, p
        assert p.level is None or abs(p.level) < 2**31, p
    json.dumps(counts)
    repr(found).encode()
    assert told(counts)


def settings(rng: Random, path: Path, other: Path) -> ProblemConfig:
    data: dict[str, Any] = {"problems": str(path), "limit": rng.choice((0, 0, 2)), "split_seed": rng.randrange(9)}
    data["sources"] = rng.choice((*[""] * 9, "gsm8k", "math, a"))
    data["columns"] = rng.choice(MAPPINGS)
    if rng.random() < 0.4:
        return ProblemConfig(**data, validation_problems=str(rng.choice((other, path))))
    return ProblemConfig(**data, validation_share=rng.choice((0.0, 0.05, 0.5, 0.9)))


def whole(rng: Random, path: Path) -> ProblemConfig:
    return ProblemConfig(str(path), columns=rng.choice(MAPPINGS), limit=rng.choice((0, 0, 1, 3)))


def table(rng: Random) -> Rows:
    columns = rng.choice(COLUMNS)
    plain = rng.random() < 0.6
    return [row(rng, columns, plain) for _ in range(rng.choice((0, 1, 2, *[5] * 9, 20)))]


def row(rng: Random, columns: tuple[str, ...], plain: bool) -> dict[str, Any]:
    made = {column: cell(rng, plain) for column in columns if plain or rng.random() < 0.9}
    if "reward_model" in made and rng.random() < 0.7:
        made["reward_model"] = {"ground_truth": cell(rng, plain)}
    return made


def cell(rng: Random, plain: bool) -> Any:
    chance = rng.random()
    if plain or chance < 0.4:
        return "".join(rng.choices(string.ascii_letters + string.digits + " ²é,", k=rng.randrange(1, 12)))
    return rng.choice(TEXTS) if chance < 0.7 else rng.choice(VALUES)


def as_json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text.replace("1e+300", "1e400").replace(str(2**63), "7" * 5000)


def encoded(rng: Random, text: str) -> bytes:
    encoding = rng.choice(ENCODINGS)
    return text.encode(encoding, "surrogatepass" if encoding == "utf-8" and rng.random() < 0.3 else "replace")


def stored(rng: Random, path: Path, content: bytes) -> Path:
    if rng.random() < 0.2:
        path, content = path.with_name(path.name + ".gz"), gzip.compress(content, 1)
    path.write_bytes(content)
    return path


def jsonl(rng: Random, folder: Path, rows: Rows) -> Path:
    end = rng.choice(("\n", "\n", "\r\n", "\r", "\n\n"))
    return stored(rng, folder / "set.jsonl", encoded(rng, end.join(map(as_json, rows))))


def array(rng: Random, folder: Path, rows: Rows) -> Path:
    body: Any = rng.choice((*[rows] * 9, {"data": rows}, [rows], None))
    return stored(rng, folder / "set.json", encoded(rng, as_json(body)))


def separated(rng: Random, folder: Path, rows: Rows) -> Path:
    mark, name = rng.choice(
        ((",", "set.csv"), (";", "set.csv"), ("\t", "set.csv"), ("\t", "set.tsv"), ("|", "set.csv"))
    )
    made = io.StringIO()
    names = list(dict.fromkeys(column for row in rows for column in row))
    quoting = rng.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
    writer = csv.writer(made, delimiter=mark, lineterminator=rng.choice(("\n", "\r\n", "\r")), quoting=quoting)
    writer.writerow([f" {n} " if rng.random() < 0.1 else n for n in names])
    writer.writerows(
        [str(row.get(n, "")) if len(str(row.get(n, ""))) < 4000 else "9" * 9 for n in names] for row in rows
    )
    return stored(rng, folder / name, encoded(rng, made.getvalue()))


def parquet(rng: Random, folder: Path, rows: Rows) -> Path:
    """Columns of one type each, as Parquet has them: the first type that holds all cells, or a type of its own."""
    path = folder / "set.parquet"
    arrays = {}
    for name in dict.fromkeys(column for row in rows for column in row):
        cells = [row.get(name) for row in rows]
        makers: list[Callable[[], pyarrow.Array]] = [
            lambda cells=cells: pyarrow.array(cells),
            lambda cells=cells: pyarrow.array(
                [None if c is None else str(c)[:4000].encode("utf-8", "replace").decode() for c in cells]
            ),
        ]
        odd: list[pyarrow.Array] = [
            pyarrow.array([Decimal("18.50")] * len(rows), pyarrow.decimal128(9, 2)),
            pyarrow.array([["18"]] * len(rows), pyarrow.list_(pyarrow.string())),
            pyarrow.array([10**17] * len(rows), pyarrow.timestamp("ns")),
            pyarrow.array([2**31 - 1] * len(rows), pyarrow.date32()),
            pyarrow.array([b"\xff"] * len(rows), pyarrow.binary()),
            pyarrow.array([True] * len(rows)),
            pyarrow.array(["a?"] * len(rows)).dictionary_encode(),
        ]
        if rng.random() < 0.15:
            makers.insert(0, lambda odd=odd: rng.choice(odd))
        arrays[name] = first_that_works(makers)
    with suppress(pyarrow.ArrowNotImplementedError):  # an object without a field: what was begun is the file
        pyarrow.parquet.write_table(pyarrow.table(arrays), path)
    path.touch()  # pyarrow takes away what it could not finish
    return path


def first_that_works(makers: list[Callable[[], pyarrow.Array]]) -> pyarrow.Array:
    for make in makers[:-1]:
        try:
            return make()
        except (pyarrow.ArrowException, OverflowError, UnicodeEncodeError, ValueError, TypeError):
            continue
    return makers[-1]()


def shards(rng: Random, folder: Path, rows: Rows) -> Path:
    home = folder / "shards"
    home.mkdir()
    names = rng.choice(
        (*[("part-0.jsonl", "part-1.jsonl")] * 6, ("train.jsonl", "test.jsonl"), ("a1.jsonl", "a2.csv"), ())
    )
    for i, name in enumerate(names):
        (home / name).write_bytes("\n".join(map(as_json, rows[i::2])).encode("utf-8", "replace"))
    if rng.random() < 0.3:
        (home / "notes.txt").write_text("none")
        (home / "part-9.jsonl").mkdir()
    return home


def noise(rng: Random, folder: Path, rows: Rows) -> Path:
    name = rng.choice(("set.jsonl", "set.json", "set.csv", "set.tsv", "set.parquet", "set.csv.gz", "set.txt", "set"))
    body = rng.choice(
        (rng.randbytes(rng.randrange(400)), b"[" * rng.choice((10, 100_000)), b'{"a":' * 100_000, b'"' * 99, b"PAR1")
    )
    (folder / name).write_bytes(body)
    return folder / name


def spoil(rng: Random, path: Path) -> None:
    """Cut, flip or double some bytes."""
    if path.is_dir():
        return
    content = bytearray(path.read_bytes())
    for _ in range(rng.randrange(1, 4)):
        if not content:
            break
        at = rng.randrange(len(content))
        match rng.randrange(4):
            case 0:
                del content[at:]
            case 1:
                content[at] = rng.randrange(256)
            case 2:
                content[at:at] = rng.choice((b'"', b"\x00", b"\r", b"\xff\xfe", b"\xed\xa0\x80", b"{", b",,"))
            case _:
                content[at:at] = content[:at][:2000]
    path.write_bytes(content)


KINDS: list[tuple[str, Callable[[Random, Path, Rows], Path]]] = [
    ("JSON lines", jsonl),
    ("JSON lines", jsonl),
    ("JSON array", array),
    ("separated", separated),
    ("separated", separated),
    ("Parquet", parquet),
    ("folder of shards", shards),
    ("noise", noise),
]
