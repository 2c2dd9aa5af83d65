"""Problem files: formats, what bad ones say, the split, the bundled sets."""

import csv
import gzip
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from hdpo.config import Information, ProblemConfig, TrainConfig, replace_knobs
from hdpo.data import problems as under_test
from hdpo.data.problems import bundled, load_problems, told, training_problems
from hdpo.data.split import place_of
from hdpo.errors import BadInput
from tests.data.reading import read_problems

ROOT = Path(__file__).resolve().parents[2]
GSM8K = ROOT.parent / "shared" / "data" / "gsm8k" / "train.jsonl"
OWN_ROWS = [
    {"text": "What is 1+1?", "solution": r"1+1=2 \boxed{2}", "answer": "2", "source": "sum", "level": 1, "id": "a"},
    {"text": "What is 2*3?", "solution": r"2*3=6 \boxed{6}", "answer": "6", "source": "mul", "level": None, "id": "b"},
]


def jsonl(path: Path, rows: list) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def table(path: Path, rows: list[dict]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def parquet(path: Path, rows: list[dict]) -> Path:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize(("write", "suffix"), [(jsonl, "jsonl"), (table, "csv"), (parquet, "parquet")])
def test_every_format_reads_the_own_columns(tmp_path, write, suffix):
    found = read_problems(write(tmp_path / f"set.{suffix}", OWN_ROWS))
    assert (found.read, found.duplicates, found.skipped) == (2, 0, ())
    first, second = found.problems
    assert (first.id, first.text, first.solution) == ("a", "What is 1+1?", r"1+1=2 \boxed{2}")
    assert (first.answer, first.source, first.level) == ("2", "sum", 1)
    assert second.level is None


def test_columns_of_open_math_instruct_2(tmp_path):
    row = {"problem": "2+2?", "generated_solution": r"\boxed{4}", "expected_answer": "4", "problem_source": "math"}
    problem = read_problems(jsonl(tmp_path / "omi.jsonl", [row])).problems[0]
    assert (problem.text, problem.solution, problem.answer, problem.source) == ("2+2?", r"\boxed{4}", "4", "math")


def test_gsm8k_loses_its_marks_and_gains_a_box(tmp_path):
    answer = "He has 2*600=<<2*600=1200>>1200.\nSo 1200.\n#### 1,200"
    problem = read_problems(jsonl(tmp_path / "g.jsonl", [{"question": "How many?", "answer": answer}])).problems[0]
    assert problem.solution == "He has 2*600=1200.\nSo 1200.\nThe answer is \\boxed{1200}."
    assert (problem.answer, problem.source, problem.text) == ("1200", "gsm8k", "How many?")


def test_a_mapping_names_the_columns(tmp_path):
    rows = [{"q": "1+1?", "w": "1+1=2", "a": 2.0, "Level": "Level 5"}, {"q": "2+1?", "w": "3", "a": float("nan")}]
    path = jsonl(tmp_path / "mine.jsonl", rows)
    found = read_problems(path, {"text": "q", "solution": "w", "answer": "a", "level": "Level"})
    assert (found.problems[0].answer, found.problems[0].level, found.problems[0].source) == ("2", 5, "mine")
    assert found.skipped == ("Line 2 of mine.jsonl has no gold answer (NaN); it was left out.",)


def test_ids_follow_from_the_text(tmp_path):
    rows = [{"text": text, "solution": "s", "answer": "1"} for text in ("A b?", "C?")]
    one = read_problems(jsonl(tmp_path / "set.jsonl", rows)).problems
    rows[0]["text"] = " A  b?"
    two = read_problems(jsonl(tmp_path / "set.jsonl", rows[::-1])).problems
    assert one[0].id == two[1].id and one[0].id.startswith("set-") and len(one[0].id) == len("set-") + 12
    assert one[0].id != one[1].id


def test_duplicates_are_kept_once_and_counted(tmp_path):
    rows = [{"text": text, "solution": "s", "answer": "1"} for text in ("A é?", "b?", " A  e\u0301?", "A é?")]
    found = read_problems(jsonl(tmp_path / "set.jsonl", rows))
    assert [problem.text for problem in found.problems] == ["A é?", "b?"]
    assert (found.read, found.duplicates) == (4, 2)


def test_csv_fields_may_span_lines_and_start_with_a_byte_order_mark(tmp_path):
    path = tmp_path / "set.csv"
    path.write_bytes('\ufefftext,solution,answer\r\n"a, b?","one\ntwo",3\r\n'.encode())
    problem = read_problems(path).problems[0]
    assert (problem.text, problem.solution) == ("a, b?", "one\ntwo")


GOOD = b'{"text": "1+1?", "solution": "2", "answer": "2"}\n'
HEAD = b"text,solution,answer\n"
BAD_FILES = [
    ("empty.jsonl", b"", "empty.jsonl has no rows"),
    ("blank.jsonl", b"\n\n", "has no rows"),
    ("empty.csv", b"", "has no rows"),
    ("head.csv", HEAD, "has no rows"),
    ("broken.jsonl", GOOD + b'{"text": "2+2?", "solu', "Line 2 of broken.jsonl is not a complete JSON object"),
    ("deep.jsonl", b"[" * 100_000, "Line 1 of deep.jsonl is not a complete JSON object"),
    ("list.jsonl", GOOD + b"[1, 2]\n", "Line 2 of list.jsonl should be a JSON object"),
    ("latin.jsonl", GOOD + '{"text": "é"}'.encode("latin-1"), r"Line 2 of latin.jsonl is not UTF-8 \(byte 11"),
    ("latin.csv", HEAD + "1+1?,é,2".encode("latin-1"), "Line 2 of latin.csv is not UTF-8"),
    ("utf16.csv", "text,solution,answer\n".encode("utf-16"), "Line 1 of utf16.csv is not UTF-8"),
    ("wide.csv", HEAD + b"1+1?,2,2\n1,000?,2,2\n", "Line 3 of wide.csv has more fields than the header"),
    ("quote.csv", HEAD + b'1+1?,2,2\n2+2?,"4,4\n\n', "row from line 3 of quote.csv on is broken CSV .* never closed"),
    ("inner.csv", HEAD + b'1+1?,"so "2" is it",2\n', "line 2 of inner.csv .*quote stands inside a quoted cell"),
    ("wide.tsv", b"text\tanswer\n1+1?\t2\t3\n", "Line 2 of wide.tsv has more fields .* contain tabs"),
    ("twice.csv", b"text,answer, answer\n1+1?,2,3\n", "twice.csv has two columns answer; rename"),
    ("zero.csv", HEAD + b"1+1?,\0,2\n", "Line 2 of zero.csv holds a zero byte"),
    ("cut.jsonl.gz", gzip.compress(GOOD * 9, mtime=0)[:-9], "cut.jsonl.gz cannot be read beyond line"),
    ("plain.csv.gz", HEAD, "plain.csv.gz cannot be read beyond line 0 .*gzipped"),
    ("half.json", b'[{"text": "1?"', "half.json is not a complete JSON object or array .* one array of objects"),
    ("rows.json", b"[[1, 2]]", "Item 1 of rows.json should be a JSON object with columns, found a list"),
    ("array.jsonl", b'[{"text": "1?", "answer": 2}]', "Line 1 .*found a list; .* one array ends in .json"),
    (
        "gold.jsonl",
        b'{"text": "1?", "solution": "2", "answer": null}\n',
        "None of the 1 rows .* Line 1 .* no gold answer",
    ),
    ("gold.csv", HEAD + b"1+1?,2,\n", "Line 2 of gold.csv has no gold answer"),
    ("text.jsonl", b'{"text": " ", "solution": "2", "answer": "2"}\n', "has no problem text"),
    ("half.jsonl", rb'{"text": "\ud800", "solution": "2", "answer": "2"}', "holds half of a surrogate pair"),
    ("lists.jsonl", b'{"text": "1?", "solution": "2", "answer": ["2"]}\n', "Line 1 .* has a list as its gold answer"),
    ("steps.jsonl", b'{"text": {"a": 1}, "answer": 2}\n', "has an object as its problem text"),
    ("cut.parquet", b"PAR1 and then nothing", "cut.parquet cannot be read as Parquet"),
    (
        "other.jsonl",
        b'{"prompt": "1?", "target": "2"}\n',
        "columns prompt, target, .* for example text=prompt,answer=target",
    ),
    ("question.csv", b"question,reply\n1+1?,2\n", "columns question, reply"),
    ("set.xlsx", b"PK", r"set.xlsx should end in .jsonl, .json, .csv, .tsv, .parquet .*; convert"),
    ("set.parquet.gz", b"PK", r"set.parquet.gz should end in"),
]


@pytest.mark.parametrize(("name", "content", "sentence"), BAD_FILES, ids=[name for name, _, _ in BAD_FILES])
def test_a_bad_file_says_what_is_wrong_and_where(tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=sentence):
        read_problems(tmp_path / name)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(BadInput, match="There is no file"):
        read_problems(tmp_path / "none.jsonl")
    with pytest.raises(BadInput, match="There is no file"):
        read_problems(tmp_path / f"{'long' * 99}.jsonl")


@pytest.mark.parametrize(
    ("mapping", "sentence"),
    [
        ({"text": "text", "solution": "solution"}, "not given: answer"),
        ({"text": "text", "solution": "solution", "answer": "answer", "gold": "x"}, "unknown: gold"),
        ({"text": "text", "solution": "worked", "answer": "answer"}, "no column worked; its columns are .*solution"),
    ],
)
def test_a_bad_mapping_says_what_is_wrong(tmp_path, mapping, sentence):
    with pytest.raises(BadInput, match=sentence):
        read_problems(jsonl(tmp_path / "set.jsonl", OWN_ROWS), mapping)


def test_a_repeated_id_is_made_another_and_told(tmp_path):
    rows = [{**row, "id": "same"} for row in OWN_ROWS]
    found = read_problems(jsonl(tmp_path / "set.jsonl", rows))
    first, second = (problem.id for problem in found.problems)
    assert first == "same" and second.startswith("same-") and found.renamed == 1
    assert told(found.counts()).endswith("1 with a repeated id, renamed")


def test_a_broken_row_does_not_lose_the_others(tmp_path):
    found = read_problems(jsonl(tmp_path / "set.jsonl", [OWN_ROWS[0], {"text": "gold?"}, OWN_ROWS[1]]))
    assert (len(found.problems), found.read, len(found.skipped)) == (2, 3, 1)


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_a_large_file_is_not_read_beyond_its_limit(tmp_path, suffix):
    padding = "word " * 300
    rows = [{"text": f"{n}+1? {padding}", "solution": "s", "answer": str(n + 1)} for n in range(14_000)]
    path = {"jsonl": jsonl, "csv": table}[suffix](tmp_path / f"large.{suffix}", rows)
    assert path.stat().st_size > 20_000_000
    with path.open("ab") as file:
        file.write(b"\xff\xfe broken\n")
    start = time.perf_counter()
    found = read_problems(path, limit=10)
    assert time.perf_counter() - start < 1.0
    assert (len(found.problems), found.read) == (10, 10)
    with pytest.raises(BadInput, match="not UTF-8"):
        read_problems(path)


def test_both_sides_of_a_file_are_the_whole(tmp_path):
    rows = [{"text": f"{n}+1?", "solution": "s", "answer": "1"} for n in range(300)]
    path = jsonl(tmp_path / "set.jsonl", rows + rows)
    sides = {split: load_problems(ProblemConfig(str(path)), split) for split in ("train", "validation", "all")}
    train, validation = (
        [p for p in sides["all"].problems if (place_of(p.text, 42) < 0.05) == held_out] for held_out in (False, True)
    )
    assert sides["train"].problems == tuple(train) and sides["validation"].problems == tuple(validation)
    assert 0 < len(validation) < 40 and len(train) + len(validation) == 300
    assert sides["train"].duplicates == len(train) and sides["all"].duplicates == 300
    assert load_problems(ProblemConfig(str(path), limit=3), "validation").problems == tuple(validation[:3])
    with pytest.raises(BadInput, match="splits train, validation and all, found 'test'"):
        load_problems(ProblemConfig(str(path)), "test")


def test_an_empty_side_is_told(tmp_path):
    with pytest.raises(
        BadInput, match="falls into validation: the share held out is 0.05. Raise --validation-share to 0.08"
    ):
        load_problems(ProblemConfig(str(jsonl(tmp_path / "set.jsonl", OWN_ROWS))), "validation")


def test_advice_where_a_side_is_empty_can_be_followed(tmp_path):
    own = ProblemConfig(str(jsonl(tmp_path / "set.jsonl", OWN_ROWS)))
    assert len(load_problems(replace(own, validation_share=0.08), "validation").problems) == 1
    with pytest.raises(BadInput, match="falls into train: .* Lower --validation-share to 0.13"):
        load_problems(replace(own, validation_share=0.9), "train")
    with pytest.raises(BadInput, match="share above 0.*--validation-problems FILE"):
        load_problems(replace(own, validation_share=0.0), "validation")
    assert len(load_problems(replace(own, validation_share=0.13), "train").problems) == 1
    assert len(load_problems(replace(own, validation_share=0.0), "train").problems) == 2


@pytest.mark.parametrize(
    ("problems", "found"),
    [("set.jsonl", r"sum \(1\), mul \(1\)"), ("bundled:steep", "linear")],
    ids=["file", "bundled"],
)
def test_sources_that_are_not_there_are_answered_with_those_that_are(tmp_path, problems, found):
    jsonl(tmp_path / "set.jsonl", OWN_ROWS)
    path = problems if ":" in problems else str(tmp_path / problems)
    with pytest.raises(BadInput, match=f"comes from MATH; its sources are .*{found}"):
        load_problems(ProblemConfig(path, sources="MATH"), "all")


def test_a_text_that_an_unwanted_source_has_too_is_not_lost(tmp_path):
    path = str(jsonl(tmp_path / "set.jsonl", [{**OWN_ROWS[0], "source": "other"}, OWN_ROWS[0]]))
    found = load_problems(ProblemConfig(path, sources="sum"), "all")
    assert [p.source for p in found.problems] == ["sum"] and (found.duplicates, found.elsewhere) == (0, 1)


def test_validation_problems_of_their_own_are_held_out_of_train(tmp_path):
    rows = [{"text": f"{n}+1?", "solution": "s", "answer": n + 1} for n in range(10)]
    mine = ProblemConfig(
        str(jsonl(tmp_path / "mine.jsonl", rows)),
        validation_problems=str(jsonl(tmp_path / "apart.jsonl", [*rows[:3], {"text": "new?", "answer": 1}])),
    )
    train, validation, both = (load_problems(mine, split) for split in ("train", "validation", "all"))
    assert [p.text for p in train.problems] == [row["text"] for row in rows[3:]] and train.overlap == 3
    assert [p.text for p in validation.problems] == ["0+1?", "1+1?", "2+1?", "new?"]
    assert len(both.problems) == 11 and both.duplicates == 3
    assert "3 left to the validation problems" in told(train.counts())
    with pytest.raises(BadInput, match="is left to train on: .*mine.jsonl holds them all"):
        load_problems(replace(mine, validation_problems=mine.problems), "train")
    with pytest.raises(BadInput, match="Leave one of them out"):
        replace(mine, validation_share=0.2)
    bundled_too = ProblemConfig(validation_problems="bundled:gentle")
    assert load_problems(bundled_too, "validation").problems == bundled("gentle", "validation")


def test_sets_without_solutions_are_taken_where_none_is_shown(tmp_path):
    rows = [{"problem": f"{n}+1?", "answer": n + 1} for n in range(40)]
    data = ProblemConfig(str(jsonl(tmp_path / "plain.jsonl", rows)), validation_share=0.3)
    assert all(p.solution == "" for p in load_problems(data, "all").problems)
    config = TrainConfig(data=data)
    with pytest.raises(BadInput, match="worked solutions.*--information answer.*--lambda 0"):
        training_problems(config)
    for change in ({"lambda_": 0.0}, {"information": Information.ANSWER}):
        train, held_out = training_problems(replace_knobs(config, change))
        assert len(train.problems) + len(held_out.problems) == 40


def test_where_some_are_solved_the_others_are_left_out_of_training_for_every_lambda(tmp_path):
    rows = [{"problem": f"{n}+1?", "answer": n + 1} | ({"solution": "so"} if n % 2 else {}) for n in range(40)]
    data = ProblemConfig(str(jsonl(tmp_path / "half.jsonl", rows)), validation_share=0.3)
    trains = [training_problems(replace_knobs(TrainConfig(data=data), {"lambda_": x}))[0] for x in (0.0, 0.3)]
    assert trains[0] == trains[1] and all(p.solution for p in trains[0].problems)
    assert "Line 1 of half.jsonl has no worked solution" in trains[0].skipped[0]
    assert len(load_problems(data, "all").problems) == 40


@pytest.mark.parametrize("mix", ["steep", "gentle"])
def test_bundled_sets(mix):
    sizes = {split: len(bundled(mix, split)) for split in ("train", "validation", "test")}
    assert sizes["train"] >= 300 and min(sizes["validation"], sizes["test"]) >= 240
    found = load_problems(ProblemConfig(f"bundled:{mix}", limit=5), "validation")
    assert found.problems == bundled(mix, "validation")[:5]
    assert {problem.level for problem in bundled(mix, "train")} == {1, 2, 3, 4, 5}


def test_bundled_sets_that_are_not(monkeypatch, tmp_path):
    with pytest.raises(BadInput, match="bundled:steep and bundled:gentle.*found bundled:flat"):
        load_problems(ProblemConfig("bundled:flat"), "train")
    with pytest.raises(BadInput, match="takes no column mapping"):
        load_problems(ProblemConfig("bundled:steep", columns="text=text"), "train")
    monkeypatch.setattr(under_test, "BUNDLED_SETS", tmp_path)
    with pytest.raises(BadInput, match="steep/train.jsonl are missing .*python -m hdpo.organism problems"):
        bundled("steep", "train")


@pytest.mark.skipif(not GSM8K.is_file(), reason="shared/data/gsm8k is not beside this checkout")
def test_real_gsm8k():
    found = read_problems(GSM8K)
    assert found.read == 7473 == len(found.problems) + found.duplicates + len(found.skipped)
    assert found.skipped == ()
    assert found.problems[0].answer == "72" and found.problems[0].solution.endswith("The answer is \\boxed{72}.")
    assert not any("<<" in problem.solution or "####" in problem.solution for problem in found.problems)
    assert all(problem.answer.lstrip("-").replace(".", "").isdigit() for problem in found.problems)


def test_no_torch_and_no_pyarrow_before_parquet():
    code = (
        "import sys, hdpo.data.problems; print([n for n in ('torch', 'transformers', 'pyarrow') if n in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == "[]"
