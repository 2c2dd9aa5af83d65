"""A setting that a command does not read is not offered; one that does nothing beside the others is refused."""

from __future__ import annotations

import argparse
import re

import pytest

from hdpo.cli.main import main, make_parser
from hdpo.config import EvaluateConfig, ScanConfig, SweepConfig, TrainConfig, knobs, replace_knobs
from hdpo.errors import BadInput
from hdpo.work.preflight import changed, idle, refuse_idle

MODEL = [
    "model",
    "revision",
    "adapter",
    "chat_template",
    "template_args",
    "device",
    "dtype",
    "rank",
    "alpha",
    "targets",
]
SEVERAL = ["processes", "sampler", "vllm_url", "vllm_memory"]
DATA = ["problems", "grader", "columns", "sources", "limit", "split_seed", "validation_share", "validation_problems"]
STUDENT = ["student", "system", "prefix", "temperature", "top_p", "max_new_tokens", "stop"]
PRIVILEGED = ["privileged", "information", "fraction"]
MEASURE = ["eval_problems", "eval_samples", "ks"]
ARM = ["distilled", "traces", "teacher_reads", "weight", "first_steps"]
OBJECTIVE = ["teacher", "divergence", "topk", *ARM, "advantage", "clip_eps"]
STEP = [
    "steps",
    "prompts_per_step",
    "rollouts",
    "privileged_rollouts",
    "max_cliffs",
    "learning_rate",
    "warmup",
    "weight_decay",
    "grad_norm",
]
TRAIN = [
    *MODEL,
    *DATA,
    *STUDENT,
    *PRIVILEGED,
    *OBJECTIVE,
    *STEP,
    *MEASURE,
    "micro_batch_tokens",
    "eval_every",
    "eval_split",
]
READS = {  # every setting that a command reads, whatever the others are
    "scan": [*MODEL, *SEVERAL, *DATA, *STUDENT, "split", "rollouts", "seed"],
    "evaluate": [*MODEL, *SEVERAL, *DATA, *STUDENT, *MEASURE, "split", "seed"],
    "rollouts": [*MODEL, *DATA, *STUDENT, *PRIVILEGED, "split", "rollouts", "seed"],
    "gap": [*MODEL, *DATA, *STUDENT, *PRIVILEGED, "split", "rollouts", "seed"],
    "train": [*TRAIN, *SEVERAL, "checkpoint_every", "stop_on_collapse", "probe_cliffs", "lambda_", "seed", "track"],
    "sweep": [
        *TRAIN,
        *SEVERAL,
        "checkpoint_every",
        "stop_on_collapse",
        "probe_cliffs",
        "track",
        "lambdas",
        "arms",
        "seeds",
        "ray",
    ],
    "bench": [*TRAIN, "sampler", "vllm_url", "vllm_memory", "lambda_", "seed"],
}
KNOBS = {k.name for c in (TrainConfig, ScanConfig, EvaluateConfig, SweepConfig) for k in knobs(c())}


def flags_of(command: str) -> set[str]:
    parser: argparse.ArgumentParser = make_parser()._subparsers._group_actions[0].choices[command]  # type: ignore
    return {a.dest for a in parser._actions} & KNOBS


@pytest.mark.parametrize("command", READS)
def test_each_flag_that_a_command_offers_it_reads(command: str) -> None:
    assert flags_of(command) == set(READS[command])


@pytest.mark.parametrize(
    "arguments",
    [
        "train --vllm-url http://x",
        "train --vllm-memory 0.5",
        "scan --fraction 0.3",
        "train --fraction 0.3 --information solution",
        "scan --revision main",
        "train --split-seed 7",
        "sweep --validation-share 0.1",
        "scan --rank 8",
        "evaluate --targets q_proj",
        "rollouts --alpha 8",
        "train --first-steps 10",
        "train --traces own --privileged-rollouts 2",
        "sweep --arms grpo,placebo --lambdas 0,1",
    ],
)
def test_a_flag_that_does_nothing_here_is_refused(tmp_path, monkeypatch, capsys, arguments: str) -> None:
    monkeypatch.setenv("HDPO_RUNS", str(tmp_path))
    if arguments == "scan --fraction 0.3":  # a scan shows nobody a solution
        assert main(arguments.split()) == 2 and "found --fraction" in capsys.readouterr().err
        return
    assert main(arguments.split()) == 2
    assert re.search(r"expected --[\w-]+ (with|for) .*found it where it does nothing", capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


def test_what_does_something_is_not_refused() -> None:
    for values in (
        {"information": "fraction", "fraction": 0.3},
        {"sampler": "vllm", "vllm_url": "http://x"},
        {"model": "team/model", "revision": "main"},
        {"problems": "mine.jsonl", "split_seed": 7, "validation_share": 0.1},
        {"rank": 8, "targets": "q_proj"},
    ):
        config = replace_knobs(TrainConfig(), values)
        assert changed(config) == set(values)
        refuse_idle(config, values)


def test_every_conditional_setting_is_one_and_has_its_condition() -> None:
    every = {
        "vllm_url",
        "vllm_memory",
        "revision",
        "fraction",
        "split_seed",
        "validation_share",
        "rank",
        "alpha",
        "targets",
    }
    assert set(idle(ScanConfig())) == every
    server = replace_knobs(TrainConfig(), {"sampler": "vllm", "vllm_url": "http://x"})
    with pytest.raises(BadInput, match="without --vllm-url"):
        refuse_idle(server, ["vllm_memory"])
