"""The verifier: hand-written LaTeX through math-verify itself and through the pool, its kills, and the fast path."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hdpo.errors import HdpoError
from hdpo.grading.judge import judge
from hdpo.grading.verify import Verdict, VerifierPool, _Child, fast_verdict, outcome_of
from hdpo.records import Outcome

RIGHT, WRONG, NONE, ERROR = Outcome.CORRECT, Outcome.WRONG, Outcome.NO_ANSWER, Outcome.GRADER_ERROR
ENDLESS = r"\boxed{\sum_{n=1}^{10^{9}} n^{n}}"  # no verdict: sympy adds it up, term by term
ROOT = Path(__file__).resolve().parents[2]
GSM8K = ROOT.parent / "shared" / "data" / "gsm8k"

# What the rules of assets/GRADING.md do not show.
CASES = [
    (r"\boxed{42}", "43", WRONG),
    (r"\boxed{042}", "42", RIGHT),
    (r"\boxed{1234}", "1,234", RIGHT),
    (r"\boxed{\frac{2}{4}}", r"\frac{1}{2}", RIGHT),
    (r"\boxed{\frac{\pi}2}", r"\frac\pi2", RIGHT),
    (r"\boxed{\frac{12}{1}}", r"\frac12", WRONG),
    (r"\boxed{\sqrt{8}}", r"2\sqrt{2}", RIGHT),
    (r"\boxed{2\pi r}", r"\pi r \cdot 2", RIGHT),
    (r"\boxed{(x-1)^2}", "x^2+2x+1", WRONG),
    (r"\boxed{5x+5}", "5(x+1)", RIGHT),
    (r"\boxed{3}", r"\log_2(8)", RIGHT),
    (r"\boxed{\text{Sunday}}", r"\text{Monday}", WRONG),
    (r"\boxed{\text{Monday}\text{ and }\text{Friday}}", r"\text{Monday} \text{ and } \text{Tuesday}", WRONG),
    (r"\boxed{\{1.2, \sqrt{2}\}}", r"\{\sqrt2, 1.2\}", RIGHT),
    (r"\boxed{(1, 2)}", "(1, 3)", WRONG),
    (r"\boxed{\begin{pmatrix} 1 \\ 200 \end{pmatrix}}", r"\begin{pmatrix}1\\200\end{pmatrix}", RIGHT),
    (r"\boxed{\begin{pmatrix} 1200 \end{pmatrix}}", r"\begin{pmatrix}1\\ 200\end{pmatrix}", WRONG),
    (r"\boxed{3+2i}", "2i+3", RIGHT),
    (r"\boxed{60\text{ miles per hour}}", "60 mph", RIGHT),
    (r"\boxed{60\text{ km/h}}", "60 mph", WRONG),
    (r"\boxed{2}", "2xy", WRONG),
    (r"\boxed{2s}", "2t", WRONG),
    (r"\boxed{10:30 pm}", r"10:30\text{ am}", WRONG),
    (r"\boxed{x = 5 cm}", r"5\text{ cm}", RIGHT),
    (r"\boxed{2x-y+1=0}", "y=2x+1", RIGHT),
    (r"\boxed{x=2+2=7}", "7", WRONG),
    (r"\boxed{0.30000000000000004}", "0.3", RIGHT),
    (r"\boxed{1.41421356}", r"\sqrt{2}", RIGHT),
    (r"\boxed{3.1416}", r"\pi", WRONG),
    (r"\boxed{\frac{\sqrt3}{2^{91}}}", r"\frac{\sqrt2}{2^{90}}", WRONG),
    (r"\boxed{0}", r"9^{9^{9}}", WRONG),
    (r"\boxed{e^{e^{e^{99}}}}", "7", WRONG),
    (r"\boxed{9^{9999999999.5}}", "7", WRONG),
    (r"\boxed{(10^{10})!}", "7", WRONG),
    (r"\boxed{" + "9" * 5000 + "}", "9" * 5000, RIGHT),
    (r"\boxed{" + "9" * 4999 + "8}", "9" * 5000, WRONG),
    (r"\boxed{" + "9" * 5000 + "}", "7", WRONG),
    ("", "42", NONE),
    (r"\boxed{42}", r"\frac{1}{", ERROR),
]


@pytest.fixture(scope="module")
def pool():
    with VerifierPool(workers=2) as pool:
        yield pool


def test_hand_written_latex_with_a_hang_among_it():
    items = [(completion, gold) for completion, gold, _ in CASES]
    with VerifierPool(workers=2, cpu_s=1.0) as pool:
        verdicts = pool.grade([*items[:10], (ENDLESS, "7"), *items[10:]])
    assert verdicts.pop(10).outcome is ERROR
    for (completion, gold, expected), verdict in zip(CASES, verdicts, strict=True):
        assert verdict.outcome is expected, (completion, gold, verdict)


def test_a_verdict_keeps_the_answer_as_it_was_written(pool):
    verdict = pool.grade([(r"so \boxed{ \frac{3}{4} }", r"\frac12")])[0]
    assert verdict == Verdict(WRONG, r"\frac{3}{4}")
    assert pool.grade([("nothing", r"\frac12")])[0].answer == ""


def test_gold_first(pool):
    """An equation answers a bare value, a bare value does not answer an equation of two unknowns: not symmetric."""
    sides = pool.grade([(r"\boxed{2x+z=1}", "1"), (r"\boxed{1}", "2x+z=1")])
    assert [verdict.outcome for verdict in sides] == [RIGHT, WRONG]


def test_unparsable_golds_are_told(pool):
    golds = ["42", "-3.5", r"\frac12", "x+1", "", r"\frac{1}{", "+-*", "42"]
    assert pool.gold_ok(golds) == [True, True, True, True, False, False, False, True]


def test_a_gold_that_cannot_be_compared_is_told_before_any_answer():
    with VerifierPool(cpu_s=0.5) as pool:
        gold = ENDLESS.removeprefix(r"\boxed{").removesuffix("}")
        assert pool.gold_ok([gold]) == [False]
        asked = asked_by(pool)
        assert [v.outcome for v in pool.grade([(rf"\boxed{{{n}}}", gold) for n in range(5)])] == [ERROR] * 5
        assert asked == []


def asked_by(pool: VerifierPool) -> list[dict[str, str]]:
    """What goes to the children of this pool from now on."""
    asked, ask = [], pool._ask
    pool._ask = lambda requests: asked.extend(requests) or ask(requests)
    return asked


def test_a_hang_costs_its_time_once_and_no_child():
    with VerifierPool(cpu_s=0.5) as pool:
        pool.gold_ok(["x"])
        before = pool._children[0].process.pid
        assert pool.grade([(ENDLESS, "7")])[0].outcome is ERROR
        asked = asked_by(pool)
        assert pool.grade([(ENDLESS, "7"), ("Once more: " + ENDLESS, "7")])[1].outcome is ERROR
        assert pool._children[0].process.pid == before and asked == []


def test_towers_of_powers_are_recognised():
    towers = [rf"\boxed{{{n}^{{9^{{9^{{9}}}}}}}}" for n in range(2, 62)]
    with VerifierPool(cpu_s=1.0) as pool:
        assert {v.outcome for v in pool.grade([(t, "7") for t in towers])} == {WRONG}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such limit")
def test_a_step_that_hears_no_timer_is_ended_by_the_kernel_and_remembered():
    # One step of Python's, for minutes.
    deaf = "import hdpo.grading.judge as j; j.judge = lambda request: sum(range(10**12)) if '7' in request.values() else {'ok': True}; j.serve(0.2)"
    pool = VerifierPool()
    child = _Child(0.2, ["-c", deaf])
    pool._children = [child]
    assert pool.grade([(r"\boxed{\frac{1}{2}}", "7")])[0].outcome is ERROR
    assert child.process.returncode == -signal.SIGXCPU
    asked = asked_by(pool)
    assert pool.grade([(r"\boxed{\frac{1}{2}}", "7")])[0].outcome is ERROR and asked == []
    pool.close()


def test_a_busy_machine_changes_no_verdict():
    items = [(rf"\boxed{{\frac{{{2 * n}}}{{6}}}}", r"\frac{7}{3}") for n in range(24)]
    with VerifierPool() as pool:
        alone = pool.grade(items)
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
    try:
        with VerifierPool() as pool:
            assert pool.grade(items) == alone
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert [v.outcome for v in alone] == [RIGHT if n == 7 else WRONG for n in range(24)]


@pytest.mark.skipif(os.name == "nt", reason="stops a process by a signal that Windows does not have")
def test_a_child_that_hears_no_alarm_is_killed_and_replaced():
    with VerifierPool(wall_s=3.0) as pool:
        pool.gold_ok(["2x"])
        stopped = pool._children[0].process
        os.kill(stopped.pid, signal.SIGSTOP)
        verdicts = pool.grade([(r"\boxed{x+x}", "2x"), (r"\boxed{3x-x}", "2x"), (r"\boxed{z}", "2x")])
        assert [verdict.outcome for verdict in verdicts] == [ERROR, RIGHT, WRONG]
        assert stopped.returncode == -signal.SIGKILL
        # Not its fault, so not remembered: the next call asks again.
        assert pool.grade([(r"\boxed{x+x}", "2x")])[0].outcome is RIGHT


def test_an_interrupt_waits_for_no_reply():
    with VerifierPool(workers=2, cpu_s=200.0) as pool:
        pool.gold_ok(["x", "y"])
        reply = pool._reply

        def interrupted(request):
            if request["answer"] == "1/2":
                time.sleep(2)  # the other one is being worked on by then
                raise KeyboardInterrupt
            return reply(request)

        pool._reply = interrupted
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            pool.grade([(r"\boxed{1/2}", "7"), (ENDLESS, "7")])
        assert time.monotonic() - started < 60 and not pool._busy


@pytest.mark.skipif(os.name == "nt", reason="kills a process by a signal that Windows does not have")
def test_a_child_that_died_idle_costs_nothing():
    with VerifierPool() as pool:
        pool.gold_ok(["x"])
        process = pool._children[0].process
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert pool.grade([(r"\boxed{x+x}", "2x")])[0].outcome is RIGHT


def test_what_a_library_prints_stays_off_the_wire():
    noisy = "import hdpo.grading.judge as j; j.judge = lambda request: print('noise') or {'ok': True}; j.serve(5.0)"
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
    assert pool.grade([(r"\boxed{x+x}", "2x")])[0].outcome is RIGHT  # a closed pool starts anew
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


def test_order_is_kept_and_equal_pairs_are_judged_once(pool):
    asked = asked_by(pool)
    items = [(rf"{n}: \boxed{{{n % 5}/7}}", "3/7") for n in range(20)]
    expected = [RIGHT if n % 5 == 3 else WRONG for n in range(20)]
    for _ in range(2):
        assert [verdict.outcome for verdict in pool.grade(items)] == expected
    assert len([request for request in asked if "answer" in request]) == 4  # the text of the gold needs no child
    del pool._ask


def test_the_memory_of_verdicts_is_bounded(pool, monkeypatch):
    monkeypatch.setattr("hdpo.grading.verify.CACHED_VERDICTS", 3)
    pool._verdicts.clear()
    pool.grade([(rf"\boxed{{{n}/11}}", "1/11") for n in range(6)])
    assert len(pool._verdicts) == 3


def test_a_truncated_rollout_is_truncated_whatever_stands_in_it():
    for outcome in Outcome:
        assert outcome_of(Verdict(outcome, "42"), truncated=True) is Outcome.TRUNCATED
        assert outcome_of(Verdict(outcome, "42"), truncated=False) is outcome


@given(st.integers(-(10**15) + 1, 10**15 - 1), st.integers(-3, 3))
@settings(max_examples=60, deadline=None)
def test_the_fast_path_equals_math_verify(number, more):
    gold, answer = str(number), str(number + more)
    fast = fast_verdict(answer, gold)
    assert fast is None or fast.outcome is (WRONG if more else RIGHT)
    assert fast is not None or len(answer.lstrip("-")) > 15
    assert judge({"answer": answer, "gold": gold})["outcome"] == (WRONG if more else RIGHT).value


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
