"""Graders by name: what each calls right, and that a person's own never gives a reward by its own failure."""

from pathlib import Path

import pytest

from hdpo.config import ScanConfig, TrainConfig, replace_knobs
from hdpo.errors import BadInput
from hdpo.grading.graders import Grader, grader_of, whole
from hdpo.grading.verify import VerifierPool
from hdpo.method.identity import grader_words
from hdpo.record.folder import Run, RunWriter, State
from hdpo.work.execute import execute
from hdpo.work.preflight import check

RIGHT, WRONG, NONE = "correct", "wrong", "no answer found"
CASES = {
    "exact": [
        (r"\boxed{Paris}", "Paris", RIGHT),
        ("Paris", " Paris", RIGHT),
        ("paris", "Paris", WRONG),
        ("", "x", NONE),
    ],
    "number": [
        (r"so \boxed{1,234}", "1234", RIGHT),
        ("first 7, then 1e3.", "1000", RIGHT),
        ("12345678.5", "12345678.5", RIGHT),
        ("12345679", "12345678", WRONG),
        ("<think>7</think> it is 8", "7", WRONG),
        ("no idea", "7", NONE),
    ],
    "number:0.01": [
        ("3.15", "3.14159", RIGHT),
        ("3.2", "3.14159", WRONG),
        ("-3.14", "3.14", WRONG),
        ("0.001", "0", WRONG),
    ],
    "choice": [
        ("The answer is (B), not A", "B", RIGHT),
        (r"\boxed{C}", "(C)", RIGHT),
        ("A or D: D", "A", WRONG),
        ("?", "A", NONE),
    ],
    r"pattern:#### (.+)": [("#### 3\nno: #### 72", "72", RIGHT), ("#### 1/2", "0.5", RIGHT), ("72", "72", NONE)],
    r"pattern:<answer>(.*?)</answer>": [("<answer> 42 </answer>", "42", RIGHT), ("<answer>41</answer>", "42", WRONG)],
}
OWN = '''
def even(completion, gold, problem):
    """Right where it is as even as the gold."""
    print("talks on the way")
    return int(completion) % 2 == int(gold) % 2

def share(completion, gold, problem):
    return len(completion) / len(problem)

def bug(completion, gold, problem):
    numbers = []
    return numbers[0]

def words(completion, gold, problem):
    return "right"

def hangs(completion, gold, problem):
    while True:
        pass
'''


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("grader") / "mine.py"
    file.write_text(OWN, encoding="utf-8")
    return file


@pytest.mark.parametrize("spec", CASES)
def test_each_grader_says_what_is_right(spec: str) -> None:
    with VerifierPool(grader=spec) as pool:
        found = [v.outcome.value for v in pool.grade([(text, gold) for text, gold, _ in CASES[spec]])]
    assert found == [outcome for *_, outcome in CASES[spec]]


def test_golds_that_a_grader_cannot_use_are_told() -> None:
    for spec, golds in {
        "number": ["7", "seven"],
        "choice": ["B", "b"],
        "exact": ["x", " "],
        "pattern:(.+)": ["1", "N/A"],
    }.items():
        with VerifierPool(grader=spec) as pool:
            assert pool.gold_ok(golds) == [True, False], spec


def test_a_persons_own_grader_gives_the_verdict(own: Path) -> None:
    with VerifierPool(grader=f"{own}:even") as pool:
        assert [v.outcome.value for v in pool.grade([("4", "2"), ("3", "2")])] == [RIGHT, WRONG]
    with VerifierPool(grader=f"{own}:share>=0.5") as pool:
        verdicts = pool.grade([("aa", "x"), ("a", "x")], ["abcd", "abcd"])
    assert [(v.outcome.value, v.answer) for v in verdicts] == [(RIGHT, "score 0.5"), (WRONG, "score 0.25")]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("bug", "line 12 of mine.py: IndexError: list index out of range. Mend bug"),
        ("words", "words in mine.py: expected 0, 1 or a score, found 'right'"),
        ("even", "line 5 of mine.py: ValueError: invalid literal"),
    ],
)
def test_a_bug_in_it_is_a_sentence_with_its_line_and_no_reward(own: Path, name: str, sentence: str) -> None:
    with VerifierPool(grader=f"{own}:{name}") as pool, pytest.raises(BadInput, match=sentence):
        pool.grade([("no number", "2")])


def test_a_file_that_fails_when_it_is_run_is_a_sentence_too(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text(
        "print('loading')\nimport no_such_thing\ndef f(completion, gold, problem):\n    return 1\n"
    )
    with (
        VerifierPool(grader=f"{tmp_path}/x.py:f") as pool,
        pytest.raises(BadInput, match="line 2 of x.py: ModuleNotFound"),
    ):
        pool.grade([("1", "1")])


def test_one_that_hangs_costs_its_time_and_is_an_error_of_the_grader(own: Path) -> None:
    with VerifierPool(cpu_s=0.3, grader=f"{own}:hangs") as pool:
        assert pool.grade([("4", "2")])[0].outcome.value == "grader error"


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("maths", "expected math, exact, number"),
        ("number:-1", "expected math, exact, number"),
        ("pattern:(", "expected a regular expression"),
        ("pattern:(a)(b)", "at most one group"),
        ("/no/such.py:f", "expected Python in such.py"),
        ("{own}:nothing", "expected a function nothing in mine.py, found even, share"),
    ],
)
def test_what_is_no_grader_is_refused_before_anything_runs(own: Path, spec: str, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        check(replace_knobs(ScanConfig(), {"grader": spec.format(own=own)}))


def test_the_file_is_read_and_not_run_before_the_child_needs_it(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text("raise SystemExit\ndef f(completion, gold, problem):\n    return 1\n")
    assert grader_of(f"{tmp_path}/x.py:f").kind == "own"


def test_a_path_is_kept_whole_and_the_fingerprint_knows_the_file(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(own.parent)
    assert whole("mine.py:share>=0.5") == f"{own.resolve()}:share>=0.5" and whole("math") == "math"
    before = grader_words(f"{own}:even")
    assert "even of" in before and grader_words("math") != grader_words("exact") != before
    own.write_text(OWN + "\n", encoding="utf-8")
    assert grader_words(f"{own}:even") != before
    assert Grader("exact") == grader_of("exact")


def test_a_run_ends_with_the_sentence_and_goes_on_once_it_is_mended(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def f(completion, gold, problem):\n    return {}[0]\n")
    small = {
        "grader": f"{file}:f",
        "steps": 1,
        "prompts_per_step": 2,
        "rollouts": 2,
        "eval_problems": 2,
        "eval_samples": 2,
    }
    config = replace_knobs(TrainConfig(), {**small, "ks": (1,), "probe_cliffs": 0, "max_new_tokens": 8})
    path = RunWriter.create("train", config, tmp_path).path
    ending = execute(path, resume=False)
    assert ending.state is State.FAILED and ending.bad_input and "line 2 of mine.py: KeyError" in ending.message
    file.write_text("def f(completion, gold, problem):\n    return 1\n")
    path = RunWriter.create("train", config, tmp_path).path
    assert execute(path, resume=False).state is State.DONE
    assert Run(path).metrics("step")[0]["reward"] in (1.0, None) or Run(path).metrics("step")[0]["reward"] > 0
