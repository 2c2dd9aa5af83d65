"""A step against TRL's, and an HDPO step against our own GRPO step."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from hdpo.config import TrainConfig, replace_knobs
from hdpo.data.problems import bundled
from hdpo.grading.boxes import answer_in
from hdpo.grading.verify import VerifierPool, fast_verdict
from hdpo.method.run import Training, start, take_step
from hdpo.model.find import find
from hdpo.record.folder import Run, RunWriter
from hdpo.record.progress import Report
from hdpo.records import Problem
from tests.benchmarks import floor
from tests.benchmarks.harness import FEW, REPEATS, Row, interleaved, seconds

# The learning rate leaves the model where it is: each repeat is the same work, and the same work on both sides.
RATE = 1e-9
SHAPE = {"prompts_per_step": 16, "rollouts": 8, "privileged_rollouts": 4, "max_new_tokens": 96, "learning_rate": RATE}
CLIFF_LEVEL, CLIFFS = 4, 6  # 6 of 16 prompts of the levels that the bundled model fails: about 40 %


REAL = {"model": "smollm2", "dtype": "bfloat16", "problems": "bundled:stories"}


def problems_of_a_step(mix: str = "steep") -> list[Problem]:
    """6 hard problems and 10 easy ones."""
    problems, hardest = bundled(mix, "train"), CLIFF_LEVEL if mix == "steep" else 3
    hard = [p for p in problems if (p.level or 0) >= hardest][:CLIFFS]
    return hard + [p for p in problems if (p.level or 0) < hardest][: SHAPE["prompts_per_step"] - CLIFFS]


@dataclass
class Steps:
    """A training of ours that takes the same problems again and again; rows: what each step recorded."""

    training: Training
    rows: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def at(cls, lambda_: float, verifier: VerifierPool, settings: dict[str, str] | None = None) -> Steps:
        config = replace_knobs(TrainConfig(), {**SHAPE, "lambda_": lambda_, **(settings or {})})
        writer = RunWriter.create("train", config, root=Path(tempfile.mkdtemp()), command="benchmark")
        training = start(writer, config, Report(writer), verifier)
        return cls(replace(training, train=problems_of_a_step(config.data.problems.partition(":")[2])))

    def __call__(self) -> None:
        self.rows.append(take_step(self.training, len(self.rows) + 1))

    def range_of(self, name: str) -> str:
        """Smallest to largest over all steps."""
        values = [r[name] for r in self.rows]
        return f"{min(values)} to {max(values)}"

    @property
    def profile(self) -> str:
        """Where the time of a step goes, in words: medians by phase, the first step left out."""
        names = {"sample": "rollouts", "privileged": "privileged rollouts", "verify": "grading", "update": "update"}
        seconds = {word: median(r[f"seconds_{phase}"] for r in self.rows[1:]) for phase, word in names.items()}
        return ", ".join(f"{word} {s:.2f} s" for word, s in seconds.items() if s > 0.005)


def floor_of(steps: Steps) -> float:
    """Of one more step: its rollouts, and its update over what has a signal, each prompt read once."""
    t = steps.training
    steps()
    rollouts = Run(t.writer.path).rollouts(len(steps.rows), "student")
    prompts = {p.id: len(t.learner.collector.student_ids(p)) for p in t.train}
    sequences = [(prompts[r["problem_id"]], r["tokens"]) for r in rollouts]
    moved = [r for r in rollouts if r["advantage"]]
    peeked = (
        Run(t.writer.path).rollouts(len(steps.rows), "privileged") if t.learner.config.objective.lambda_ > 0 else []
    )
    longer = {p.id: len(t.learner.collector.privileged_ids(p)) for p in t.train}
    peeks = [(longer[r["problem_id"]], r["tokens"]) for r in peeked]
    moved += [r for r in peeked if r["accepted"]]
    trained = sum(r["tokens"] for r in moved) + sum(prompts[i] for i in {r["problem_id"] for r in moved})
    sampled = floor.decoding(t.learner.policy, sequences, shared=8) + floor.decoding(t.learner.policy, peeks, shared=4)
    return sampled + floor.training(t.learner.policy, trained)


def hdpo_against_grpo() -> Row:
    """The same prompts at λ = 0.3 and at λ = 0."""
    with VerifierPool() as verifier:
        hdpo, grpo = Steps.at(0.3, verifier), Steps.at(0.0, verifier)
        ours, theirs = interleaved(hdpo, grpo)
        least = floor_of(hdpo)
    note = f"{hdpo.range_of('groups_cliff_recovered')} cliffs recovered, {hdpo.range_of('groups_mixed')} mixed groups; {hdpo.profile}"
    what = "HDPO step, 6 of 16 prompts cliffs × 4 privileged"
    return Row(what, "our GRPO step", "s", ours, theirs, 1.4, at_most=True, note=note, floor=least)


def sessions() -> list[Row]:
    """Whole sessions of the bundled model with their evaluations, from the start of the process on: what a class waits for."""
    goals = {"bundled": 70.0, "classroom": 45.0}
    took = {preset: tuple(seconds(partial(session, preset)) for _ in range(3)) for preset in goals}
    return [Row(f"a session, preset {p}", "–", "s", took[p], (), goals[p], note="3 repeats") for p in goals]


def session(preset: str) -> None:
    command = [sys.executable, "-m", "hdpo", "train", "--preset", preset]
    where = os.environ | {"HDPO_RUNS": tempfile.mkdtemp()}
    subprocess.run(command, env=where, check=True, capture_output=True)


def grpo_against_trl() -> Row:
    """Of the bundled model."""
    return against_trl("GRPO step, 16 prompts × 8", {}, 5.5, REPEATS)


def real_grpo_against_trl() -> Row:
    """Of SmolLM2, raised on stories."""
    return against_trl("GRPO step, smollm2 in bfloat16, 16 prompts × 8", REAL, 3.0, FEW)


def against_trl(what: str, settings: dict[str, str], goal: float, repeats: int) -> Row:
    """One step of `GRPOTrainer`, timed between its own callbacks; ours between two of its steps."""
    import datasets
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    folder, dtype = find(settings.get("model", "bundled")).folder, settings.get("dtype", "float32")
    problems = problems_of_a_step(settings.get("problems", "bundled:steep").partition(":")[2])
    rows = [{"prompt": [{"role": "user", "content": p.text}], "answer": p.answer} for p in problems]

    def reward(completions: list[Any], answer: list[str], **_: Any) -> list[float]:
        texts = [c[0]["content"] for c in completions]
        verdicts = [fast_verdict(answer_in(t), a) for t, a in zip(texts, answer, strict=True)]
        return [float(v is not None and v.outcome.value == "correct") for v in verdicts]

    parts = 8 if "model" in settings else 1  # all logits of 128 sequences at once do not fit beside a real vocabulary
    ours: list[float] = []
    theirs: list[float] = []
    with VerifierPool() as verifier:
        grpo = Steps.at(0.0, verifier, settings)
        grpo()

        class Turns(TrainerCallback):
            began = 0.0

            def on_step_begin(self, *_: Any, **__: Any) -> None:
                self.began = time.perf_counter()

            def on_step_end(self, *_: Any, **__: Any) -> None:
                theirs.append(time.perf_counter() - self.began)
                before = time.perf_counter()
                grpo()
                ours.append(time.perf_counter() - before)

        config = grpo.training.learner.config
        arguments = GRPOConfig(
            output_dir=tempfile.mkdtemp(),
            max_steps=repeats + 1,
            per_device_train_batch_size=128 // parts,
            gradient_accumulation_steps=parts,
            num_generations=8,
            max_completion_length=96,
            beta=0.0,
            temperature=1.0,
            top_p=1.0,
            top_k=0,
            learning_rate=RATE,
            loss_type="dapo",
            max_grad_norm=1.0,
            num_iterations=1,
            gradient_checkpointing=False,
            bf16=dtype == "bfloat16",
            use_cpu=True,
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_vllm=False,
        )
        lora = LoraConfig(
            r=config.model.rank,
            lora_alpha=config.model.alpha,
            target_modules="all-linear",
            lora_dropout=0.0,
            task_type="CAUSAL_LM",
        )
        trainer = GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(folder, dtype=dtype),
            reward_funcs=reward,
            args=arguments,
            train_dataset=datasets.Dataset.from_list(rows),
            processing_class=AutoTokenizer.from_pretrained(folder),
            peft_config=lora,
            callbacks=[Turns()],
        )
        with redirect_stdout(sys.stderr):  # it tells its own numbers
            trainer.train()
    least = floor_of(grpo)
    note = (
        f"{grpo.range_of('groups_mixed')} mixed groups, TRL trains on the others too; {grpo.profile}; {repeats} repeats"
    )
    sides = tuple(ours[1:]), tuple(theirs[1:])
    return Row(what, "TRL 1.16 `GRPOTrainer`", "s", *sides, goal, note=note, floor=least)
