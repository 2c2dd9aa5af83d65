"""Cells and columns: what is text, what is named for what it is, whose columns are known."""

from __future__ import annotations

import itertools
import json
from decimal import Decimal
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from hdpo.config import ProblemConfig
from hdpo.data.columns import example_of
from hdpo.data.problems import ProblemFile, load_problems
from hdpo.errors import BadInput
from tests.data.reading import read_problems

CASES = Path(__file__).parent / "cases"


def written(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def answers(found: ProblemFile) -> list[str]:
    return [p.answer for p in found.problems]


def test_superscripts_and_letter_case_make_different_problems() -> None:
    found = read_problems(CASES / "folding.jsonl")
    assert answers(found) == ["9", "32", "1", "1"] and found.duplicates == 1
    assert len({p.id for p in found.problems}) == 4


def test_final_lines() -> None:
    found = read_problems(CASES / "final_lines.jsonl")
    assert answers(found) == ["0,1", "3,11,33", "18", "1234.50", "1234", "-7"]
    assert found.problems[2].solution == "9 + 9 = 18\nThe answer is \\boxed{18}."


def test_cells_of_all_types_in_any_order(tmp_path: Path) -> None:
    found = read_problems(CASES / "types.jsonl")
    assert answers(found) == ["18", "0", "18"]
    kinds = ("a list", "(null)", "infinity", "true", "an object")
    for line, kind, sentence in zip((2, 3, 4, 5, 7), kinds, found.skipped, strict=True):
        assert sentence.startswith(f"Line {line} of types.jsonl has") and kind in sentence
    lines = (CASES / "types.jsonl").read_text().splitlines()
    for order in itertools.islice(itertools.permutations(lines), 0, 40000, 4999):
        (tmp_path / "other.jsonl").write_text("\n".join(order))
        other = read_problems(tmp_path / "other.jsonl")
        assert {(p.text, p.answer) for p in other.problems} == {(p.text, p.answer) for p in found.problems}
        assert len(other.skipped) == 5


def test_numbers_of_thousands_of_digits(tmp_path: Path) -> None:
    found = read_problems(CASES / "digits.jsonl")
    assert [len(a) for a in answers(found)] == [5000, 1]
    path = written(tmp_path / "level.jsonl", {"text": "a?", "answer": "9" * 5000, "level": "9" * 5000})
    assert len(answers(read_problems(path))[0]) == 5000


def test_numbers_are_written_out(tmp_path: Path) -> None:
    numbers = [1e-07, 18.0, -0.0, 1e22, 2.5, 123456789012345678]
    path = written(tmp_path / "n.jsonl", *({"text": f"{i}?", "answer": n} for i, n in enumerate(numbers)))
    assert answers(read_problems(path)) == ["0.0000001", "18", "0", "1" + "0" * 22, "2.5", "123456789012345678"]


def test_parquet_decimals_are_numbers_and_lists_are_named(tmp_path: Path) -> None:
    decimals = pyarrow.array([Decimal("18.00"), Decimal("2.50"), None], pyarrow.decimal128(9, 2))
    table = {"text": ["a?", "b?", "c?"], "answer": decimals}
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "d.parquet")
    found = read_problems(tmp_path / "d.parquet")
    assert answers(found) == ["18", "2.5"]
    assert found.skipped == ("Row 3 of d.parquet has no gold answer (null); it was left out.",)
    lists = pyarrow.array([["18"], ["2", "3"], None], pyarrow.list_(pyarrow.string()))
    pyarrow.parquet.write_table(pyarrow.table(table | {"answer": lists}), tmp_path / "l.parquet")
    with pytest.raises(BadInput, match=r"None of the 3 rows .* Row 1 of l.parquet has a list as its gold answer"):
        read_problems(tmp_path / "l.parquet")


def test_a_first_row_without_its_final_line_decides_nothing(tmp_path: Path) -> None:
    found = read_problems(CASES / "first_row.jsonl")
    assert answers(found) == ["4"]
    assert found.skipped == ("Line 1 of first_row.jsonl has no gold answer behind ####; it was left out.",)
    lines = (CASES / "first_row.jsonl").read_text().splitlines()
    (tmp_path / "turned.jsonl").write_text("\n".join(lines[::-1]))
    assert read_problems(tmp_path / "turned.jsonl").problems[0].text == found.problems[0].text


def test_a_first_row_without_columns_decides_nothing(tmp_path: Path) -> None:
    found = read_problems(written(tmp_path / "s.jsonl", {}, {"note": 1}, {"text": "a?", "answer": 1}))
    assert answers(found) == ["1"] and [s.partition(" of ")[0] for s in found.skipped] == ["Line 1", "Line 2"]


@pytest.mark.parametrize("column", ["{", "a\nb\x00", "%s" * 900])
def test_columns_with_strange_names_are_named_in_a_sentence(tmp_path: Path, column: str) -> None:
    path = written(tmp_path / "s.jsonl", {column: 1})
    for mapping in (None, {"text": "q", "answer": "a"}):
        with pytest.raises(BadInput, match="columns") as refusal:
            read_problems(path, mapping)
        assert str(refusal.value).isprintable() and len(str(refusal.value)) < 1000


def turns(*roles: str) -> list[dict[str, str]]:
    return [{"role": role, "content": f"{role} says"} for role in roles]


def test_sets_in_verls_form(tmp_path: Path) -> None:
    row = {"data_source": "math_dapo", "reward_model": {"ground_truth": "34", "style": "rule"}, "solution": "34"}
    rows = [
        {**row, "prompt": turns("user")},
        {**row, "prompt": turns("system", "user")},
        {**row, "prompt": "plain?"},
        {**row, "prompt": turns("user", "assistant", "user")},
    ]
    found = read_problems(written(tmp_path / "dapo.jsonl", *rows))
    assert [p.text for p in found.problems] == ["user says", "system says\n\nuser says", "plain?"]
    assert {(p.answer, p.source, p.solution) for p in found.problems} == {("34", "math_dapo", "")}
    assert found.skipped == (
        "Line 4 of dapo.jsonl has a list as its problem text, where text or a number is expected; it was left out.",
    )


def test_columns_are_known_in_any_letter_case_and_with_outer_spaces(tmp_path: Path) -> None:
    row = {"ID": 60, " Problem": "a?", "Solution ": "so", "Answer": 204}
    (found,) = read_problems(written(tmp_path / "aime.jsonl", row)).problems
    assert (found.id, found.text, found.solution, found.answer) == ("60", "a?", "so", "204")


def test_a_mapping_reaches_into_objects_and_may_leave_the_solution_out(tmp_path: Path) -> None:
    path = written(tmp_path / "m.jsonl", {"q": {"now": "a?"}, " gold ": 2})
    (found,) = load_problems(ProblemConfig(str(path), columns="text=q.now, answer=gold"), "all").problems
    assert (found.text, found.answer, found.solution) == ("a?", "2", "")


def test_a_column_may_have_a_comma_or_an_equals_sign_in_its_name(tmp_path: Path) -> None:
    (tmp_path / "odd.csv").write_text('"the, question",final=answer\n1+1?,2\n')
    named = {"text": "the, question", "answer": "final=answer"}
    assert [p.answer for p in read_problems(tmp_path / "odd.csv", named).problems] == ["2"]
    assert example_of([{"Nr, a": 1, "Was ist, bitte": "How many?", "x=y": "2"}]) == "text=Was ist, bitte,answer=x=y"
