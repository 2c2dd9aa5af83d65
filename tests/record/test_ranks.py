"""Two processes on one machine: the gradient, the losses and the run folder are those of one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from hdpo.config import TrainConfig, replace_knobs
from hdpo.model.policy import load_file
from hdpo.processes import held
from hdpo.record.folder import Run, RunWriter, State, request_stop
from hdpo.record.ranks import ALONE, Ranks
from hdpo.work.execute import execute
from tests.engine import random_model
from tests.ranked import gradients

CASES = (
    "both terms",
    "unequal numbers of micro-batches",
    "a rank without a cliff",
    "a rank of zero advantages",
    "no accepted rollout anywhere",
    "no signal at all",
)
LAUNCH = (
    "--multi_gpu",
    "--num_processes",
    "2",
    "--num_machines",
    "1",
    "--main_process_port",
    "0",
    "--mixed_precision",
    "no",
    "--dynamo_backend",
    "no",
)
SHORT = {
    "steps": 2,
    "prompts_per_step": 6,
    "rollouts": 4,
    "eval_problems": 10,
    "eval_samples": 2,
    "ks": (1,),
    "eval_every": 2,
    "probe_cliffs": 2,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def on_ranks(tmp_path_factory) -> tuple[dict, list[dict]]:
    """What one process finds, and what each of two."""
    out, model = tmp_path_factory.mktemp("ranks"), str(random_model())
    command = [sys.executable, "-m", "accelerate.commands.launch", *LAUNCH, "-m", "tests.ranked", model, str(out)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    return gradients(model, ALONE), [json.loads((out / f"rank-{i}.json").read_text()) for i in (0, 1)]


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_have_the_gradient_and_the_losses_of_one(on_ranks, case: str) -> None:
    alone, both = on_ranks
    expected = torch.tensor(alone[case]["gradient"])
    for rank in both:
        assert torch.allclose(torch.tensor(rank[case]["gradient"]), expected, rtol=1e-4, atol=1e-6)
        assert flat(rank[case]["terms"]) == pytest.approx(flat(alone[case]["terms"]), rel=1e-5, abs=1e-9)
    assert (expected.abs().max() > 1e-5) == (case != "no signal at all")


def test_all_cases_ran(on_ranks) -> None:
    assert set(on_ranks[0]) == set(CASES)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_shares_are_disjoint_and_whole(count: int) -> None:
    items = list(range(7))
    shares = [Ranks(i, count).share(items) for i in range(count)]
    assert sorted(x for s in shares for x in s) == items
    assert [shares[i % count][i // count] for i in range(7)] == items  # the order in which `gather` puts them


def run_with(root: Path, **settings) -> tuple[Run, State]:
    config = replace_knobs(TrainConfig(), {**SHORT, **settings})
    path = RunWriter.create("train", config, root).path
    return Run(path), execute(path, resume=False).state


def test_a_run_of_two_processes_is_the_run_of_one(tmp_path: Path) -> None:
    one, state = run_with(tmp_path)
    two, state_two = run_with(tmp_path, processes=2)
    assert state is state_two is State.DONE
    for a, b in zip(one.metrics(), two.metrics(), strict=True):  # strict: rank 1 wrote nothing
        a, b = ({k: v for k, v in row.items() if not k.startswith("seconds")} for row in (a, b))
        if a["kind"] in ("step", "eval"):
            assert flat(a) == pytest.approx(flat(b), rel=1e-4, abs=1e-6)
    adapters = [load_file(r.checkpoints()[-1] / "adapter_model.safetensors") for r in (one, two)]
    assert all(torch.allclose(adapters[0][k], adapters[1][k], atol=1e-5) for k in adapters[0])
    assert two.table("eval", 2) == one.table("eval", 2)
    assert len(two.table("gap", 2)) == len(one.table("gap", 2)) > 0


def flat(row: dict, path: str = "") -> dict[str, object]:
    """Its numbers, by dotted name."""
    found: dict[str, object] = {}
    for key, value in row.items():
        found |= flat(value, f"{path}{key}.") if isinstance(value, dict) else {f"{path}{key}": value}
    return {k: v for k, v in found.items() if isinstance(v, int | float)}


def ranks_of(path: Path) -> list[psutil.Process]:
    """The processes that execute this run folder, launcher included."""
    found = []
    for p in psutil.process_iter(["cmdline"]):
        if p.info["cmdline"] and str(path) in p.info["cmdline"]:
            found.append(p)
    return found


def begun(tmp_path: Path) -> tuple[Run, subprocess.Popen[bytes]]:
    """A long run of two processes that has made its first step, and the process that waits for it."""
    path = RunWriter.create(
        "train", replace_knobs(TrainConfig(), {**SHORT, "steps": 5000, "eval_every": 5000, "processes": 2}), tmp_path
    ).path
    code = (
        f"from pathlib import Path; from hdpo.work.execute import execute; print(execute(Path({str(path)!r}), False))"
    )
    waiting = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    deadline = time.monotonic() + 90
    while not Run(path).metrics("step"):
        assert time.monotonic() < deadline and waiting.poll() is None
        time.sleep(0.2)
    assert len(ranks_of(path)) >= 3  # launcher and two ranks, each found by its arguments
    return Run(path), waiting


def test_stop_ends_all_ranks_at_a_step_edge_and_one_process_goes_on(tmp_path: Path) -> None:
    run, waiting = begun(tmp_path)
    request_stop(run.path)
    said = waiting.communicate(timeout=60)[0].decode()
    assert run.status().state is State.STOPPED and "Resume goes on after step" in said
    assert not ranks_of(run.path)
    assert int(run.checkpoints()[-1].name.removeprefix("step-")) >= 1


def test_a_killed_rank_takes_the_others_along_and_the_run_says_so(tmp_path: Path) -> None:
    run, waiting = begun(tmp_path)
    launcher_and_first = {p.pid for p in ranks_of(run.path) if "accelerate.commands.launch" in p.cmdline()} | {
        run.status().pid
    }
    other = next(p for p in ranks_of(run.path) if p.pid not in launcher_and_first)
    other.kill()
    waiting.communicate(timeout=90)
    assert run.status().state is State.FAILED and "one of them ended" in run.status().message
    assert not ranks_of(run.path)


def test_a_killed_launcher_leaves_no_rank_behind_and_the_run_can_go_on_at_once(tmp_path: Path) -> None:
    run, waiting = begun(tmp_path)
    next(p for p in ranks_of(run.path) if "accelerate.commands.launch" in p.cmdline()).kill()
    waiting.communicate(timeout=90)
    assert run.status().state is State.FAILED and "one of them ended" in run.status().message
    assert not ranks_of(run.path) and not held(run.path)
