"""The vLLM sampler. What needs vLLM itself runs in an environment that has it (`.ci/run` makes one), and is skipped
elsewhere; HDPO_NEEDS_VLLM=1 makes a missing vLLM a failure."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import psutil
import pytest
import torch

from hdpo.config import ModelConfig, SamplingConfig
from hdpo.errors import BadInput, HdpoError
from hdpo.model.policy import Policy, Weights
from hdpo.record.folder import Run, State
from hdpo.sampling.draws import DrawKey, Purpose
from hdpo.sampling.protocol import Draw
from hdpo.sampling.stops import Stops
from hdpo.sampling.transformers import TransformersSampler
from hdpo.sampling.vllm import VllmSampler, make, parity
from hdpo.sampling.vllm_engines import How, LocalEngine, Request, ServerEngine, Watchdog, heard
from hdpo.sampling.vllm_guard import NAMED, bearing, guard
from tests.engine import prompts_of, push, random_model, random_policy

KEY = DrawKey(0, Purpose.STUDENT, 1)
HOW = SamplingConfig(max_new_tokens=12)
SERVED = {
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "HF_HUB_OFFLINE": "1",
}


def needs_vllm() -> None:
    if os.environ.get("HDPO_NEEDS_VLLM") != "1":
        pytest.importorskip("vllm", reason="vLLM is not installed here; .ci/run has an environment with it")


@pytest.fixture(scope="module")
def engine() -> Iterator[LocalEngine]:
    needs_vllm()
    config = ModelConfig(model=str(random_model()), rank=4, alpha=8)
    found = LocalEngine(config, context=512, topk=64)
    yield found
    assert bearing(found.name)
    found.close()
    assert gone(bearing(found.name))


def gone(processes: list[psutil.Process], seconds: float = 20.0) -> bool:
    return not psutil.wait_procs(processes, timeout=seconds)[1]


def sampler(engine: LocalEngine | ServerEngine, policy: Policy) -> VllmSampler:
    return VllmSampler(policy, engine, "float32")


def test_rollouts_have_seeds_of_their_own_ends_and_the_teachers_topk(engine: LocalEngine) -> None:
    policy = random_policy()
    prompts = prompts_of(policy)[:4]
    some = sampler(engine, policy)
    hot = SamplingConfig(max_new_tokens=12, temperature=2.0)
    drawn = [[c.token_ids for c in g] for g in some.sample(prompts, hot, Draw(3, KEY))]
    assert len({ids for g in drawn for ids in g}) > 9
    assert [[c.token_ids for c in g] for g in some.sample(prompts[2:], hot, Draw(3, KEY))] == drawn[2:]
    first = some.sample(prompts, HOW, Draw(3, KEY, topk=64))
    for c in (c for g in first for c in g):
        assert c.truncated == (c.token_ids[-1] not in policy.end_ids) and len(c.token_ids) <= 12
        assert c.topk is not None and c.topk.ids.shape == (len(c.token_ids), 64) and c.topk.weights == "version-0"
        assert (np.diff(c.topk.logprobs) <= 1e-6).all() and c.topk.logprobs[:, 0].max() <= 1e-6
        inside = [np.flatnonzero(row == t) for row, t in zip(c.topk.ids, c.token_ids, strict=True)]
        for place, row, logp in zip(inside, c.topk.logprobs, c.logprobs, strict=True):
            assert len(place) <= 1 and all(abs(row[i] - logp) < 1e-6 for i in place)
    assert any(c.truncated for g in first for c in g) and any(not c.truncated for g in first for c in g)
    long = next(c for g in first for c in g if len(c.token_ids) > 6)
    text = policy.tokenizer.decode(long.token_ids[1:4])
    stops = replace(HOW, stop=re.sub(r"([\\,])", r"\\\1", text).replace("\n", "\\n"))
    stopped = [c for g in some.sample(prompts, stops, Draw(3, KEY, topk=64)) for c in g]
    cut = [Stops(policy.tokenizer, (text,)).cut(c) for g in first for c in g]
    assert [c.token_ids for c in stopped] == [c.token_ids for c in cut] != [c.token_ids for g in first for c in g]


def test_swapped_adapters_give_other_log_probs_each_as_the_trained_model_has_them(
    engine: LocalEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = random_policy()
    prompts = prompts_of(policy)[:6]
    some = sampler(engine, policy)
    found = []
    for version in (0, 1):
        policy.version = version
        if version:
            push(policy, seed=1, size=0.2)
        found.append(some.sample(prompts, HOW, Draw(4, KEY, topk=64)))
        with capsys.disabled():
            print(f"\nadapter {version}: " + ", ".join(f"{k} {v:.3g}" for k, v in some.parity().items()))
        assert 0 < some.parity()["parity_mean"] < some.bound and some.parity()["parity_tokens"] > 10
        theirs = some.sample(prompts, HOW, Draw(1, KEY, greedy=True))
        ours = TransformersSampler(policy).sample(prompts, HOW, Draw(1, KEY, greedy=True))
        same = [a[0].token_ids == b[0].token_ids for a, b in zip(ours, theirs, strict=True)]
        assert sum(same) >= len(same) - 1  # a near tie may fall the other way
    first = [dict(zip(g[0].topk.ids[0].tolist(), g[0].topk.logprobs[0].tolist(), strict=True)) for g in found[0]]
    other = [
        abs(b - a[i])
        for a, g in zip(first, found[1], strict=True)
        for i, b in zip(g[0].topk.ids[0].tolist(), g[0].topk.logprobs[0].tolist(), strict=True)
        if i in a
    ]
    with capsys.disabled():
        print(f"between the adapters: {sum(other) / len(other):.3g} nats at the first token's top 64")
    assert sum(other) / len(other) > 100 * some.bound


def test_the_frozen_teacher_is_the_base_and_the_topk_is_the_models_own(engine: LocalEngine) -> None:
    policy = random_policy(seed=3)
    prompts = prompts_of(policy)[:2]
    some = sampler(engine, policy)
    [[c], _] = some.sample(prompts, HOW, Draw(1, KEY, weights=Weights.INITIAL, topk=64))
    assert some.parity()["parity_mean"] < some.bound and c.topk is not None and c.topk.weights == "initial"
    with torch.no_grad():
        from hdpo.model.batching import Trace

        hidden = policy.hidden(policy.batch([Trace(prompts[0].ids, c.token_ids)]), Weights.INITIAL)
        best = policy.logits(hidden).log_softmax(-1).topk(64, -1).values
    assert np.abs(best.numpy() - c.topk.logprobs).max() < 0.05


def test_another_adapter_than_the_trained_models_is_refused(engine: LocalEngine, monkeypatch) -> None:
    policy, other = random_policy(), random_policy()
    push(other, seed=9, size=0.3)
    monkeypatch.setattr(policy, "save_peft", other.save_peft)
    with pytest.raises(HdpoError, match="expected log-probs within 0.001 nats"):
        sampler(engine, policy).sample(prompts_of(policy)[:2], HOW, Draw(2, KEY))


def test_at_another_temperature_the_log_probs_are_not_claimed(engine: LocalEngine) -> None:
    policy = random_policy()
    [[c]] = sampler(engine, policy).sample(
        prompts_of(policy)[:1], SamplingConfig(temperature=0.7, max_new_tokens=8), Draw(1, KEY)
    )
    assert all(math.isnan(x) for x in c.logprobs)


def trained(root: Path, *more: str) -> subprocess.Popen[bytes]:
    settings = [
        "--lambda",
        "0.3",
        "--prompts-per-step",
        "4",
        "--rollouts",
        "4",
        "--privileged-rollouts",
        "2",
        "--eval-problems",
        "4",
        "--eval-samples",
        "2",
        "--ks",
        "1",
        "--probe-cliffs",
        "1",
        "--max-new-tokens",
        "16",
    ]
    command = [sys.executable, "-m", "hdpo", "train", "--sampler", "vllm", *settings, *more]
    return subprocess.Popen(command, env={**os.environ, "HDPO_RUNS": str(root)}, start_new_session=True)


def test_a_training_by_vllm_notes_the_parity_of_each_step_and_leaves_no_engine(tmp_path: Path) -> None:
    needs_vllm()
    process = trained(tmp_path, "--steps", "2")
    own = seen_children(process, 2)
    assert process.wait(240) == 0
    [run] = [Run(p) for p in tmp_path.glob("*-train-*")]
    rows = run.metrics("step")
    assert [r["step"] for r in rows] == [1, 2] and all(0 < r["parity_mean"] < 0.001 for r in rows)
    assert all(0 < r["sampler_mismatch"] < 0.001 for r in rows)
    assert gone(own)


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_training_leaves_no_engine(tmp_path: Path, sign: int) -> None:
    needs_vllm()
    process = trained(tmp_path, "--steps", "5000")
    own = seen_children(process, 2)
    os.kill(process.pid, sign)
    if sign == signal.SIGINT:
        time.sleep(1.0)
        os.kill(process.pid, sign)  # the second ends at once
    process.wait(60)
    assert gone(own), [p.cmdline() for p in own if p.is_running()]
    [run] = [Run(p) for p in tmp_path.glob("*-train-*")]
    assert run.status().state in (State.KILLED, State.STOPPED)


def seen_children(process: subprocess.Popen[bytes], steps: int) -> list[psutil.Process]:
    """All processes below a training once vLLM's is among them."""
    for _ in range(600):
        below = psutil.Process(process.pid).children(recursive=True)
        if any("EngineCore" in " ".join(p.cmdline()) or "EngineCore" in p.name() for p in below):
            return below
        assert process.poll() is None, "the training ended before vLLM was up"
        time.sleep(0.2)
    raise AssertionError("no engine of vLLM was seen")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    needs_vllm()
    log = (tmp_path_factory.mktemp("server") / "log.txt").open("w+")
    command = [
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--model",
        str(random_model()),
        "--enable-lora",
        "--max-lora-rank",
        "8",
        "--max-logprobs",
        "64",
        "--logprobs-mode",
        "raw_logprobs",
        "--dtype",
        "float32",
        "--enforce-eager",
        "--max-model-len",
        "512",
        "--port",
        "8139",
    ]
    process = subprocess.Popen(
        [sys.executable, *command], env={**os.environ, **SERVED}, stdout=log, stderr=log, start_new_session=True
    )
    for _ in range(400):
        with suppress(HdpoError):
            ServerEngine("http://127.0.0.1:8139")
            break
        assert process.poll() is None, Path(log.name).read_text()[-2000:]
        time.sleep(0.3)
    yield "http://127.0.0.1:8139"
    os.killpg(process.pid, signal.SIGKILL)


def test_a_server_takes_each_adapter_and_draws_as_the_trained_model_would(server: str, engine: LocalEngine) -> None:
    policy = random_policy()
    prompts = prompts_of(policy)[:3]
    some = sampler(ServerEngine(server), policy)
    for version in (0, 1):
        policy.version = version
        push(policy, seed=version, size=0.1)
        found = some.sample(prompts, HOW, Draw(2, KEY, topk=64))
        assert 0 < some.parity()["parity_mean"] < some.bound
        beside = sampler(engine, policy).sample(prompts, HOW, Draw(2, KEY, topk=64))
        for a, b in ((a, b) for g, h in zip(found, beside, strict=True) for a, b in zip(g, h, strict=True)):
            assert a.token_ids == b.token_ids and a.truncated == b.truncated
            assert a.topk is not None and b.topk is not None
            assert np.abs(a.topk.logprobs - b.topk.logprobs).max() < 1e-3
    assert (
        some.sample(prompts, HOW, Draw(1, KEY, weights=Weights.INITIAL)) and some.parity()["parity_mean"] < some.bound
    )
    another = sampler(ServerEngine(server), policy)
    another.sample(prompts[:1], HOW, Draw(1, KEY))
    some.close()  # takes its own adapter away, and no one else's
    assert another.sample(prompts, HOW, Draw(2, KEY, topk=64))
    [left] = [m["id"] for m in json.load(urlopen(f"{server}/v1/models"))["data"] if m["parent"]]
    assert left in {a.name for a in another.engine.loaded}
    another.close()


# what needs no vLLM


def test_the_kl_of_the_parity_check_is_right_in_the_mean() -> None:
    p, q = np.array([0.7, 0.2, 0.1]), np.array([0.5, 0.3, 0.2])
    drawn = np.random.default_rng(0).choice(3, 200_000, p=p)
    exact = float((p * np.log(p / q)).sum())
    assert parity(np.log(p[drawn]), np.log(q[drawn]))["parity_kl"] == pytest.approx(exact, rel=0.02)


def test_a_servers_words_become_an_answer_with_the_extra_token_dropped() -> None:
    places = [{"token_id:5": -0.1, "token_id:9": -3.0}, {"token_id:2": -0.5, "token_id:7": -0.9, "token_id:4": -6.0}]
    told = {"tokens": ["token_id:5", "token_id:4"], "token_logprobs": [-0.1, -6.0], "top_logprobs": places}
    answer = heard({"logprobs": told, "finish_reason": "length"}, How({"logprobs": 2}, "initial"))
    assert answer.token_ids == (5, 4) and answer.logprobs == (-0.1, -6.0) and answer.truncated
    assert answer.topk.ids.tolist() == [[5, 9], [2, 7]]


def test_the_watchdog_ends_what_gives_no_token_and_nothing_else() -> None:
    barks: list[int] = []
    with Watchdog(lambda: barks.append(1), patience=0.2) as dog:
        for _ in range(10):
            time.sleep(0.05)
            dog.beat()
        assert not barks
        time.sleep(0.6)
    assert barks == [1] and dog.barked


def test_the_guard_ends_what_bears_its_name_once_its_starter_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAMED, "")
    watching = guard("test-guard")
    named = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    monkeypatch.setenv(NAMED, "another")
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    assert watching.stdin is not None
    watching.stdin.close()
    assert watching.wait(20) == 0 and named.wait(20) == -signal.SIGKILL and other.poll() is None
    other.kill()
    other.wait(20)


def test_what_vllm_cannot_do_is_said_before_anything_starts(tmp_path: Path) -> None:
    policy = random_policy()
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    for settings, words in (
        ({"model": str(tmp_path / "a.gguf")}, "expected a folder of safetensors for vLLM, found the GGUF file a.gguf"),
        (
            {"model": str(random_model()), "vllm_url": "http://127.0.0.1:9"},
            "expected a vLLM server at http://127.0.0.1:9",
        ),
    ):
        with pytest.raises(HdpoError, match=re.escape(words)):
            make(policy, ModelConfig(sampler="vllm", **settings), 64)
    with pytest.raises(BadInput, match="expected one process, or a vLLM server"):
        ModelConfig(sampler="vllm", processes=2)
    if importlib.util.find_spec("vllm") is None:
        with pytest.raises(BadInput, match="pip install -r requirements-gpu.txt"):
            make(policy, ModelConfig(sampler="vllm", model=str(random_model())), 64)


def test_a_server_takes_nothing_from_the_models_own_sampling_settings(monkeypatch) -> None:
    asked: list[Any] = []

    def hear(self: ServerEngine, path: str, body: dict[str, Any] | None = None) -> Any:
        asked.append(body)
        if body is None:
            return {"data": [{"id": "base"}]}
        raise HdpoError("enough")

    monkeypatch.setattr(ServerEngine, "_ask", hear)
    with pytest.raises(HdpoError, match="enough"):
        ServerEngine("http://x").complete([Request((5, 6), 1)], How({"logprobs": 1}, "initial"), None, len)
    assert asked[1] | {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "min_tokens": 0} == asked[1]
