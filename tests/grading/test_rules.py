"""The written rules (assets/GRADING.md) and the cases beside them: what each says is what the grader does."""

import json
import re
from pathlib import Path

import pytest

from hdpo.grading.verify import VerifierPool

HERE = Path(__file__).parent
ROW = re.compile(r"^\| (?P<rule>.+?) \| `(?P<gold>.*?)` \| `(?P<completion>.*?)` \| (?P<right>[a-z ]+) \|$", re.M)
TEXT = (HERE.parents[1] / "assets" / "GRADING.md").read_text(encoding="utf-8")
RULES = [m.groupdict() for m in ROW.finditer(TEXT)]
CASES = [json.loads(line) for line in (HERE / "cases.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def found():
    """What the grader says of each (gold, completion)."""
    items = [(c["completion"], c["gold"]) for c in RULES + CASES]
    with VerifierPool(workers=2) as pool:
        fine = pool.gold_ok([gold for _, gold in items])
        verdicts = pool.grade(items)
    return {i: v.outcome.value if ok else "ungradable" for i, v, ok in zip(items, verdicts, fine, strict=True)}


def test_every_line_of_the_tables_is_a_row() -> None:
    lines = [x for x in TEXT.splitlines() if x.startswith("|") and not x.startswith(("|---", "| rule"))]
    assert len(lines) == len(RULES) > 80


@pytest.mark.parametrize("row", RULES, ids=lambda row: f"{row['rule']} {row['completion']}"[:60])
def test_a_written_rule(row, found) -> None:
    assert found[row["completion"], row["gold"]] == row["right"]


def test_every_case_has_its_right_value(found) -> None:
    wrong = []
    for case in CASES:
        said = found[case["completion"], case["gold"]]
        if said == "correct" if case["right"] == "not correct" else said != case["right"]:
            wrong.append((case, said))
    assert wrong == [] and len(CASES) == 253
