"""The verifier: hand-written LaTeX through math-verify itself and through the pool, its kills, and the fast path."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hdpo.errors import HdpoError
from hdpo.grading.judge import judge
from hdpo.grading.verify import Verdict, VerifierPool, fast_verdict, outcome_of
from hdpo.records import Outcome

RIGHT, WRONG, NONE, ERROR = Outcome.CORRECT, Outcome.WRONG, Outcome.NO_ANSWER, Outcome.GRADER_ERROR
TOWER = r"Surely \boxed{9^{9^{9^{9}}}}"  # no verdict: to compare it sympy would have to write it out
ROOT = Path(__file__).resolve().parents[2]
GSM8K = ROOT.parent / "shared" / "data" / "gsm8k"

CASES = [
    (r"6 \cdot 7 = 42, so \boxed{42}.", "42", RIGHT),
    (r"\boxed{42}", "43", WRONG),
    (r"\boxed{-7}", "-7", RIGHT),
    (r"\boxed{042}", "42", RIGHT),
    (r"\boxed{1,234}", "1234", RIGHT),
    (r"\boxed{1234}", "1,234", RIGHT),
    (r"\boxed{\frac{1}{2}}", "0.5", RIGHT),
    (r"\boxed{0.5}", r"\frac12", RIGHT),  # a gold may be sloppy LaTeX
    (r"\boxed{\frac12}", r"\frac{1}{2}", WRONG),  # an answer may not
    (r"\boxed{\frac{2}{4}}", r"\frac{1}{2}", RIGHT),
    (r"\boxed{50\%}", r"\frac{1}{2}", RIGHT),
    (r"\boxed{\sqrt{8}}", r"2\sqrt{2}", RIGHT),
    (r"\boxed{2\pi r}", r"\pi r \cdot 2", RIGHT),
    (r"\boxed{(x+1)^2}", "x^2+2x+1", RIGHT),
    (r"\boxed{(x-1)^2}", "x^2+2x+1", WRONG),
    (r"\boxed{x=5}", "5", RIGHT),
    (r"\boxed{5\text{ cm}}", "5", RIGHT),
    (r"\boxed{\text{Monday}}", r"\text{Monday}", RIGHT),
    (r"\boxed{\text{Sunday}}", r"\text{Monday}", WRONG),
    (r"\boxed{\{2, 1\}}", r"\{1, 2\}", RIGHT),
    (r"The roots are \boxed{1} and \boxed{2}.", r"\{1, 2\}", RIGHT),
    (r"\boxed{(1, 2)}", "(1, 3)", WRONG),
    (r"\boxed{\begin{pmatrix}1\\2\end{pmatrix}}", r"\begin{pmatrix}1\\2\end{pmatrix}", RIGHT),
    (r"\boxed{3+2i}", "2i+3", RIGHT),
    (r"First \boxed{41}. " + "No, I must correct that step. " * 4 + r"\boxed{42}", "42", RIGHT),
    (r"First \boxed{42}. " + "No, I must correct that step. " * 4 + r"\boxed{41}", "42", WRONG),
    (r"The final answer is $7$. I hope it is correct. \boxed{8}", "8", RIGHT),
    (r"\boxed{8}. The final answer is $7$. I hope it is correct.", "8", WRONG),  # that phrase ranks with a box
    (r"$\boxed{400}$ %", "4", RIGHT),
    (r"Answer: $42$, that is \boxed{\frac12}", "42", WRONG),  # the box counts, and no earlier answer
    ("The answer is 42.", "42", NONE),  # no box, no formula: strict
    ("It is 42 because $6 \\cdot 7 = 42$", "42", NONE),  # a formula without an anchor
    ("Answer: $42$", "42", RIGHT),
    ("The answer is [42] then", "42", RIGHT),
    (r"\boxed{42", "42", NONE),
    ("", "42", NONE),
    (r"\boxed{42}", r"\frac{1}{", ERROR),
]


@pytest.fixture(scope="module")
def pool():
    with VerifierPool(workers=2) as pool:
        yield pool


def test_hand_written_latex_through_math_verify_itself():
    for completion, gold, expected in CASES:
        reply = judge({"completion": completion, "gold": gold}, 60)
        assert reply["outcome"] == expected.value, (completion, gold, reply)


def test_hand_written_latex_through_the_pool_with_a_hang_among_it():
    items = [(completion, gold) for completion, gold, _ in CASES]
    with VerifierPool(workers=2) as pool:
        verdicts = pool.grade([*items[:10], (TOWER, "7"), *items[10:]])
    assert verdicts.pop(10).outcome is ERROR
    for (completion, gold, expected), verdict in zip(CASES, verdicts, strict=True):
        assert verdict.outcome is expected, (completion, gold, verdict)


def test_a_verdict_keeps_the_answer_and_the_gold_that_were_read(pool):
    verdict = pool.grade([(r"so \boxed{ \frac{3}{4} }", r"\frac12")])[0]
    assert verdict == Verdict(WRONG, r"\frac{3}{4}", r"\frac{1}{2}")
    assert pool.grade([("nothing", r"\frac12")])[0].answer == ""


def test_gold_first(pool):
    """An equation answers a bare value, a bare value does not answer an equation of two unknowns: not symmetric."""
    sides = pool.grade([(r"\boxed{2x+z=1}", "1"), (r"\boxed{1}", "2x+z=1")])
    assert [verdict.outcome for verdict in sides] == [RIGHT, WRONG]


def test_unparsable_golds_are_told(pool):
    golds = ["42", "-3.5", r"\frac12", "x+1", "", r"\frac{1}{", "+-*", "42"]
    assert pool.gold_ok(golds) == [True, True, True, True, False, False, False, True]


@pytest.mark.skipif(os.name == "nt", reason="reads the signal that ended a process, which Windows does not have")
def test_a_hostile_expression_is_killed_where_the_alarm_comes_too_late():
    with VerifierPool(timeout_s=1.0) as pool:
        pool.gold_ok(["x"])
        process = pool._children[0].process
        assert pool.grade([(TOWER, "7")])[0].outcome is ERROR
        assert process.returncode == -signal.SIGKILL


def test_the_inner_alarm_costs_no_child():
    with VerifierPool(timeout_s=6.0) as pool:
        pool.gold_ok(["x"])
        before = pool._children[0].process.pid
        assert pool.grade([(TOWER, "7")])[0].outcome is ERROR
        assert pool._children[0].process.pid == before


@pytest.mark.skipif(os.name == "nt", reason="stops a process by a signal that Windows does not have")
def test_a_child_that_hears_no_alarm_is_killed_and_replaced():
    with VerifierPool(timeout_s=3.0) as pool:
        pool.gold_ok(["x"])
        stopped = pool._children[0].process
        os.kill(stopped.pid, signal.SIGSTOP)
        verdicts = pool.grade([(r"\boxed{x}", "x"), (r"\boxed{y}", "y"), (r"\boxed{z}", "x")])
        assert [verdict.outcome for verdict in verdicts] == [ERROR, RIGHT, WRONG]
        assert stopped.returncode == -signal.SIGKILL
        # Not remembered: the next call asks again.
        assert pool.grade([(r"\boxed{x}", "x")])[0].outcome is RIGHT


@pytest.mark.skipif(os.name == "nt", reason="kills a process by a signal that Windows does not have")
def test_a_child_that_died_idle_costs_nothing():
    with VerifierPool() as pool:
        pool.gold_ok(["x"])
        process = pool._children[0].process
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert pool.grade([(r"\boxed{x}", "x")])[0].outcome is RIGHT


def test_what_a_library_prints_stays_off_the_wire():
    noisy = "import hdpo.grading.judge as j; j.judge = lambda request, alarm_s: print('noise') or {'ok': True}; j.serve(5.0)"
    command = [sys.executable, "-c", noisy]
    said = subprocess.run(command, input="{}\n", capture_output=True, text=True, check=True, cwd=ROOT)
    assert said.stdout == '{"ready": true}\n{"ok": true}\n' and said.stderr.count("noise") == 2


def test_children_end_when_stdin_closes():
    pool = VerifierPool()
    pool.gold_ok(["x"])
    process = pool._children[0].process
    process.stdin.close()
    assert process.wait(timeout=10) == 0
    pool.close()
    assert pool.grade([(r"\boxed{x}", "x")])[0].outcome is RIGHT  # a closed pool starts anew
    pool.close()


def test_a_pool_that_cannot_start_says_why(monkeypatch):
    monkeypatch.setattr("hdpo.grading.verify.sys.executable", "/bin/false")
    with VerifierPool() as pool, pytest.raises(HdpoError, match="did not start"):
        pool.gold_ok(["x"])


def test_no_child_for_plain_integers():
    with VerifierPool() as pool:
        assert pool.gold_ok(["1", "2.5"]) == [True, True]
        assert [v.outcome for v in pool.grade([(r"\boxed{1}", "1"), ("one", "1")])] == [RIGHT, NONE]
        assert pool._children == []


def test_order_is_kept_and_equal_pairs_are_judged_once(pool, monkeypatch):
    asked = []
    ask = VerifierPool._ask
    monkeypatch.setattr(VerifierPool, "_ask", lambda self, requests: asked.extend(requests) or ask(self, requests))
    items = [(rf"\boxed{{{n % 5}/7}}", "3/7") for n in range(20)]
    expected = [RIGHT if n % 5 == 3 else WRONG for n in range(20)]
    for _ in range(2):
        assert [verdict.outcome for verdict in pool.grade(items)] == expected
    assert len(asked) == 5


def test_the_memory_of_verdicts_is_bounded(pool, monkeypatch):
    monkeypatch.setattr("hdpo.grading.verify.CACHED_VERDICTS", 3)
    pool._verdicts.clear()
    pool.grade([(rf"\boxed{{{n}/11}}", "1/11") for n in range(6)])
    assert len(pool._verdicts) == 3


def test_a_truncated_rollout_is_truncated_whatever_stands_in_it():
    for outcome in Outcome:
        assert outcome_of(Verdict(outcome, "42", "42"), truncated=True) is Outcome.TRUNCATED
        assert outcome_of(Verdict(outcome, "42", "42"), truncated=False) is outcome


WORDS = st.sampled_from(
    [
        "Then",
        "x = 5",
        "$x=3$",
        "$",
        "[2]",
        "answer:",
        "final answer is $7$.",
        "I hope",
        "%",
        r"\(y\)",
        r"\[",
        r"\]",
        "5/7",
    ]
    + ["and", r"\frac{1}{2}", "percent", r"\fbox{3}", "\n", "{", "}", "42", "9."]
)
BOXES = st.one_of(
    st.integers(-(10**16), 10**16).map(lambda n: rf"\boxed{{{n}}}"),
    st.sampled_from(
        [r"\boxed{0}", r"\boxed{-0}", r"\boxed{007}", r"\boxed{ 4 }", r"$\boxed{4}$", r"$$x=\boxed{4}$$", r"\boxed 4"]
    ),
    st.just(""),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(WORDS, max_size=5), BOXES, st.lists(WORDS, max_size=5), st.sampled_from(["4", "0", "-3", "7"]))
def test_the_fast_path_equals_math_verify(before, box, after, gold):
    completion = " ".join([*before, box, *after])
    fast = fast_verdict(completion, gold)
    if fast is not None:
        reply = judge({"completion": completion, "gold": gold}, 60)
        assert (fast.outcome.value, fast.answer, fast.gold) == (reply["outcome"], reply["answer"], reply["gold"])


@given(st.integers(-(10**15) + 1, 10**15 - 1), st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_fast_path_is_taken_for_plain_integers(number, right):
    gold = str(number if right else number + 1)
    if len(gold.lstrip("-")) > 15:
        return
    fast = fast_verdict(rf"so it is $x = \boxed{{{number}}}$.", gold)
    assert fast == Verdict(RIGHT if right else WRONG, str(number), gold)
    assert judge({"completion": rf"$x = \boxed{{{number}}}$.", "gold": gold}, 60)["outcome"] == fast.outcome.value


def test_the_parent_never_imports_sympy():
    code = "import sys, hdpo.grading.verify; print([name for name in ('sympy', 'math_verify', 'torch') if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == "[]"


@pytest.mark.skipif(not GSM8K.is_dir(), reason="shared/data/gsm8k is not beside this checkout")
def test_real_model_solutions_agree_with_their_labels(pool, capsys):
    """Four models' solutions of real problems end in "A: 42"; boxed, the verdict should be their `is_correct`."""
    items, labels = [], []
    for line in (GSM8K / "model_solutions_sample.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        gold = row["ground_truth"].rpartition("A: ")[2].strip()
        for model in (value for value in row.values() if isinstance(value, dict)):
            worked, _, answer = re.sub(r"<<[^>]*>>", "", model["solution"]).rpartition("A: ")
            items.append((f"{worked}\\boxed{{{answer.strip()}}}", gold))
            labels.append(model["is_correct"])
    verdicts = pool.grade(items)
    same = [(verdict.outcome is RIGHT) == label for verdict, label in zip(verdicts, labels, strict=True)]
    with capsys.disabled():
        print(f"\n{sum(same)} of {len(same)} verdicts agree with the labels of real solutions")
    assert len(same) >= 100
    assert sum(same) / len(same) >= 0.98
