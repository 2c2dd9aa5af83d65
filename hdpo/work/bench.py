"""What this machine does with a session: seconds by phase, how long it will take, how much memory it holds.

Nothing is guessed: steps and a part of an evaluation are run as the session would run them, in a folder that is
thrown away. How far a step stands from the limit of the machine is told by its arithmetic alone, at the rate that the
machine reaches in plain matrix products of the model's own shapes.
"""

import sys
import tempfile
import time
import timeit
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import torch

from hdpo.config import TrainConfig
from hdpo.grading.verify import VerifierPool
from hdpo.method.evaluate import measure
from hdpo.method.run import Training, start, take_step
from hdpo.model.fit import PROBLEMS_AT_ONCE
from hdpo.model.policy import Policy
from hdpo.record.folder import RunWriter
from hdpo.record.progress import Report
from hdpo.sampling.draws import DrawKey, Purpose
from hdpo.sampling.protocol import Draw

STEPS = 4  # after a first one that is not counted
PHASES = ("sample", "verify", "privileged", "update")


def bench(config: TrainConfig) -> dict[str, Any]:
    """Measure, in seconds: a step and its phases (medians over STEPS of them, and the fastest and slowest), an
    evaluation, the session; floor: what the arithmetic of one step would take at the rate of plain matrix products,
    which gflops is. memory is what this process has held and memory_left what is free, in bytes. Raises BadInput as the
    session itself would."""
    with tempfile.TemporaryDirectory() as folder, VerifierPool(grader=config.data.grader) as verifier:
        writer = RunWriter.create("train", config, root=Path(folder), command="python -m hdpo bench")
        training = start(writer, config, Report(writer), verifier)
        with closing(training.learner.collector.sampler):
            rows = [take_step(training, step) for step in range(1, STEPS + 2)][1:]
            evaluation = seconds_of_evaluation(training)
    policy, whole, c = training.learner.policy, [r["seconds"] for r in rows], config.step
    device, parameters = policy.device, weights_of(policy)
    rate = matrix_rate(policy)
    return {
        "steps": STEPS,
        "step": median(whole),
        "step_low": min(whole),
        "step_high": max(whole),
        "phases": {p: median(r[f"seconds_{p}"] for r in rows) for p in PHASES},
        "rollout_tokens_per_s": median(r["tokens_student"] / r["seconds_sample"] for r in rows),
        "evaluation": evaluation,
        "session": c.steps * median(whole) + config.evaluation_count * evaluation,
        "floor": median(operations(r, parameters, c.prompts_per_step) for r in rows) / rate,
        "gflops": rate / 1e9,
        "parameters": parameters,
        "memory": memory_held(device),
        "memory_left": torch.cuda.mem_get_info()[0] if device.type == "cuda" else psutil.virtual_memory().available,
        "device": str(device),
        "forward": policy.forward,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def seconds_of_evaluation(t: Training) -> float:
    """Of all held-out problems, from the first chunk of them, the probe set left out."""
    part = t.validation[:PROBLEMS_AT_ONCE]
    if not part:
        return 0.0
    c, began = t.learner.config, time.perf_counter()
    draw = Draw(c.evaluation.eval_samples, DrawKey(c.seed, Purpose.EVALUATION, 1))
    measure(t.learner.collector, part, draw, lambda done: None)
    return (time.perf_counter() - began) * len(t.validation) / len(part)


def operations(row: dict[str, Any], parameters: int, prompts: int) -> float:
    """Of one step at the least: 2 per weight for a sampled token, 4 for a trained one (forward, and backward through
    frozen weights). Prompts, attention and the adapter are left out, so what a step needs is somewhat more."""
    sampled = row["tokens_student"] + row["tokens_privileged"]
    trained = row["tokens_student"] * row["groups_mixed"] / prompts + row["tokens_accepted"]
    return parameters * (2.0 * sampled + 4.0 * trained)


def weights_of(policy: Policy) -> int:
    """Weights that are multiplied with: without the adapter, the tied embedding once."""
    return policy.causal.num_parameters() - sum(p.numel() for p in policy.trainable)


def matrix_rate(policy: Policy, rows: int = 2048) -> float:
    """Operations a second in (rows, hidden) × (hidden, 4 · hidden) of its own dtype, the best of several."""
    hidden, how = (
        policy.causal.config.get_text_config().hidden_size,
        {"device": policy.device, "dtype": policy.causal.dtype},
    )
    a, b = torch.randn(rows, hidden, **how), torch.randn(hidden, 4 * hidden, **how)
    took = timeit.repeat(lambda: float((a @ b)[0, 0]), number=1, repeat=10)  # float() waits for a GPU
    return 2.0 * rows * hidden * 4 * hidden / min(took)


def memory_held(device: torch.device) -> int:
    """The most that this process has held, in bytes."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated())
    now = psutil.Process().memory_info()
    if sys.platform == "win32":
        return int(now.peak_wset)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
