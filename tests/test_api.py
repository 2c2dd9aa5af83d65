"""hdpo from Python: the same runs as the terminal's, from a list and a function; results as DataFrames; errors as sentences."""

from __future__ import annotations

import builtins
import json
import math
import re
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from math import isclose
from pathlib import Path
from typing import Any

import pytest

import hdpo
from hdpo.cli.main import main
from hdpo.config import TrainConfig
from hdpo.data.problems import bundled
from hdpo.given import alone, grader_spec, problems_source
from hdpo.grading.graders import grader_of
from hdpo.grading.verify import VerifierPool
from hdpo.record.folder import Run, request_stop
from tests.conftest import REPOSITORY, needs_model

TRAIN, HELD_OUT = bundled("steep", "train")[:12], bundled("steep", "validation")[:6]
SMALL: dict[str, Any] = {"steps": 2, "prompts_per_step": 4, "rollouts": 2, "privileged_rollouts": 1, "eval_every": 2}
SMALL |= {"eval_samples": 4, "ks": (1, 2), "probe_cliffs": 0, "max_new_tokens": 24}
LIMIT = 3


def right(completion: str, gold: str, problem: str) -> bool:
    found = re.findall(r"boxed\{(.*?)\}", completion)
    return bool(found) and found[-1] == gold


def near(completion, gold, problem):
    return math.floor(float(gold)) == LIMIT


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    needs_model()
    monkeypatch.setenv("HDPO_RUNS", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> hdpo.LoadedRun:
    needs_model()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HDPO_RUNS", str(tmp_path_factory.mktemp("runs")))
        return hdpo.train(map(asdict, TRAIN), right, validation_problems=HELD_OUT, lambda_=0.5, **SMALL)


# --- the same runs ----------------------------------------------------------------------------------------------------


def test_the_door_is_light_and_names_what_it_offers() -> None:
    code = "import hdpo, sys; hdpo.train; hdpo.Problem; print({'torch', 'pandas', 'transformers'} & set(sys.modules), *dir(hdpo))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("set()") and {"scan", "compare", "load_run", "BadInput"} <= set(done.stdout.split())
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = hdpo.trian
    typed = (REPOSITORY / "hdpo" / "__init__.pyi").read_text(encoding="utf-8")
    assert all(re.search(rf"\b{name} as {name}\b", typed) for name in hdpo._DOORS)


def test_a_run_from_python_is_a_run_of_the_terminal(trained, monkeypatch, capsys) -> None:
    root = trained.run.path.parent
    monkeypatch.setenv("HDPO_RUNS", str(root))
    assert main(["runs", "--json"]) == 0
    assert [r["run"] for r in json.loads(capsys.readouterr().out) if r["kind"] == "train"][0] == trained.run.id
    config: TrainConfig = trained.run.load_config()
    assert config.objective.lambda_ == 0.5 and config.evaluation.ks == (1, 2)
    assert Path(config.data.problems).parent == root / "given" and "right of" in trained.run.fingerprint.grader
    assert main([*trained.run.frozen()["command"].split()[3:], "--dry-run"]) == 0  # the command does the same
    assert hdpo.load_run("latest").run == hdpo.load_run(trained).run == trained.run


def test_a_run_is_resumed_with_its_own_settings_and_to_more_steps(root: Path) -> None:
    first = hdpo.train(TRAIN, right, validation_problems=HELD_OUT, **{**SMALL, "steps": 1})
    with pytest.raises(hdpo.BadInput, match="A resumed run keeps its own"):
        hdpo.train(resume=first, lambda_=1.0)
    with pytest.raises(hdpo.BadInput, match="found it done"):
        hdpo.train(resume=first)
    more = hdpo.train(resume=first, steps=2)
    assert more.run == first.run and list(first.steps["step"]) == [1, 2]


def test_a_stop_is_raised_with_the_way_on(root: Path) -> None:
    def stop_after_the_first_step() -> None:
        while not (logs := list(root.glob("*/metrics.jsonl"))) or not Run(logs[0].parent).metrics("step"):
            time.sleep(0.01)
        request_stop(logs[0].parent)

    threading.Thread(target=stop_after_the_first_step, daemon=True).start()
    with pytest.raises(hdpo.Stopped, match=r"Resume goes on after step \d+"):
        hdpo.train(TRAIN, right, validation_problems=HELD_OUT, **{**SMALL, "steps": 500, "eval_every": 500})
    assert 0 < len(hdpo.load_run("latest").steps) < 500


# --- what comes back --------------------------------------------------------------------------------------------------


def test_tables_say_what_the_folder_says(trained) -> None:
    steps, evals = trained.steps, trained.evaluations
    assert list(steps["step"]) == [1, 2] and set(steps["lambda"]) == {0.5} and set(steps["run"]) == {"λ = 0.5, seed 0"}
    assert set(evals["metric"]) == {"pass@1", "pass@2", "greedy", "cliff", "solved"} and set(evals["step"]) == {0, 2}
    assert (evals["low"] <= evals["value"]).all() and (evals["value"] <= evals["high"]).all()
    assert list(trained.problems()["problem_id"]) == [p.id for p in HELD_OUT]
    assert len(trained.rollouts(role="student")) == 16 and set(trained.rollouts(step=1)["step"]) == {1}
    assert trained.run.id in repr(trained) and "pass@1" in repr(trained)


def test_the_trained_policy_is_the_checkpoints(trained) -> None:
    from safetensors.torch import load_file

    at_end, best = trained.policy(), trained.policy("best")
    kept = load_file(trained.run.checkpoints()[-1] / "adapter_model.safetensors")
    assert all((kept[name] == t).all() for name, t in at_end._tensors("default").items())
    assert best.name == "bundled" and not best.model.training


def test_a_list_is_evaluated_whole_and_compared_in_pairs(trained, monkeypatch) -> None:
    monkeypatch.setenv("HDPO_RUNS", str(trained.run.path.parent))
    few = {k: SMALL[k] for k in ("eval_samples", "ks", "max_new_tokens")}
    many = bundled("steep", "validation")[:20]
    a, b = (hdpo.evaluate(many, right, seed=s, **few) for s in (0, 1))
    assert len(a.problems()) == len(many)
    found = hdpo.compare(a, b)
    mean = [r.problems()["correct"].sum() / r.problems()["n"].sum() for r in (a, b)]
    row = found.loc["pass@1"]
    assert list(found.index) == ["pass@1", "pass@2", "cliffs"] and row["low"] <= row["difference"] <= row["high"]
    assert [row["a"], row["b"], row["difference"]] == pytest.approx([*mean, mean[1] - mean[0]])
    assert row["difference"] and found.loc["cliffs", "a"] == (a.problems()["correct"] == 0).mean()
    with pytest.raises(hdpo.BadInput, match="Not to be compared: they differ in .*sampling"):
        hdpo.compare(a, hdpo.evaluate(many, right, **{**few, "max_new_tokens": 16}))


def test_figures_take_the_tables(trained) -> None:
    from workbench.figures import live

    assert {t.name for t in live.pass_at(trained.evaluations, metrics=("pass@1",)).data} >= {"λ = 0.5, seed 0"}
    assert len(live.signal_accounting(trained.steps).data) > 1


# --- problems and graders ---------------------------------------------------------------------------------------------


def test_a_list_becomes_one_file_by_its_content(root: Path) -> None:
    one, again = problems_source(HELD_OUT), problems_source([asdict(p) for p in HELD_OUT])
    assert (
        one == again and problems_source(HELD_OUT[:1]) != one and problems_source("bundled:gentle") == "bundled:gentle"
    )
    assert len(list((root / "given").iterdir())) == 2
    for bad in ([], [object()], [{"text": object()}], [1]):
        with pytest.raises(hdpo.BadInput, match="problems: expected"):
            problems_source(bad)


def test_a_function_of_a_module_is_named_and_one_of_a_notebook_is_written(root: Path) -> None:
    assert grader_spec(right) == f"{Path(__file__).resolve()}:right"
    namespace = {"__name__": "__main__", "m": math, "isclose": isclose}
    source = "def mine(completion, gold, problem):\n    return isclose(m.floor(1.5), len([gold for gold in gold]))\n"
    import linecache

    linecache.cache["<cell>"] = (len(source), None, source.splitlines(keepends=True), "<cell>")
    exec(compile(source, "<cell>", "exec"), namespace)
    spec = grader_spec(namespace["mine"])
    assert Path(spec.rpartition(":")[0]).read_text() == (
        f"from math import isclose as isclose\nimport math as m\n\n\n{source}"
    )
    with VerifierPool(grader=spec) as pool:
        assert [v.outcome.value for v in pool.grade([("x", "1"), ("x", "12")])] == ["correct", "wrong"]
    assert grader_of(grader_spec(f"{spec}>=0.5")).value == 0.5


def test_a_function_that_does_not_stand_alone_is_refused() -> None:
    outer = 3

    def closed(completion, gold, problem):
        return outer

    for function, found in (
        (near, "that near uses LIMIT"),
        (closed, "that closed uses outer"),
        (lambda completion, gold, problem: 1, "found a lambda"),
        (len, "expected a function written with def"),
    ):
        with pytest.raises(hdpo.BadInput, match=found):
            alone(function)


# --- sentences --------------------------------------------------------------------------------------------------------


def test_what_is_wrong_is_one_sentence_and_leaves_no_run(root: Path) -> None:
    for call, words in (
        (lambda: hdpo.train(lamda_=1), r"found lamda_ \(did you mean lambda_\?\)"),
        (lambda: hdpo.train(steps=0), "steps: expected 1 to"),
        (lambda: hdpo.scan("nowhere.jsonl"), "There is no file nowhere.jsonl"),
        (lambda: hdpo.scan(preset="quik"), "preset: expected one of"),
        (lambda: hdpo.scan(grader="maths"), "grader: expected"),
        (lambda: hdpo.load_run("nothing"), "expected the id, name or folder of a run"),
    ):
        with pytest.raises(hdpo.BadInput, match=words):
            call()
    assert not list(root.glob("*/config.json"))


def test_a_bug_in_a_grader_is_raised_with_its_line(root: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def bad(completion, gold, problem):\n    return {}[gold]\n")
    with pytest.raises(hdpo.HdpoError, match="line 2 of mine.py: KeyError"):
        hdpo.scan(HELD_OUT, f"{tmp_path / 'mine.py'}:bad", rollouts=2, max_new_tokens=8)


def test_without_pandas_the_tables_say_so(trained, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def no_pandas(name: str, *args: Any) -> Any:
        if name == "pandas":
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", no_pandas)
    with pytest.raises(hdpo.BadInput, match="pandas: expected the package"):
        _ = trained.steps
