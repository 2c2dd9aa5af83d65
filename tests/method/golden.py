"""The golden losses: three steps of the default engine on the bundled model at λ = 0 and 0.3, as they were and shall be.

`python -m tests.method.golden` makes `golden.json` anew. Where the engine is meant to compute something else from now on,
raise `hdpo.SEMANTICS` in the same commit: runs of before and after are then not compared. Where the same sums are taken
in another order, and every number stays within 1e-5 of what it was, leave it.
"""

from __future__ import annotations

import json
import platform
import tempfile
from pathlib import Path
from typing import Any

import torch

import hdpo
from hdpo.config import SweepConfig, TrainConfig, replace_knobs
from hdpo.record.folder import Run, RunWriter
from hdpo.work import prepare_libraries
from hdpo.work.execute import execute

FILE = Path(__file__).with_suffix(".json")
LAMBDAS = (0.0, 0.3)
SMALL = {
    "steps": 3,
    "prompts_per_step": 8,
    "rollouts": 4,
    "max_new_tokens": 48,
    "eval_problems": 2,
    "eval_samples": 2,
    "ks": (1,),
    "probe_cliffs": 0,
}
KEPT = ("loss_grpo", "loss_jsd", "grad_norm", "reward", "rollouts", "accepted_rollouts", "tokens_student")


def steps_of(*lambdas: float) -> list[list[dict[str, float]]]:
    """What is kept of each step of a run a λ, on one thread; of several they advance in turn."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            alone = replace_knobs(TrainConfig(), {**SMALL, "lambda_": lambdas[0]})
            kind, config = ("sweep", SweepConfig(alone, lambdas)) if len(lambdas) > 1 else ("train", alone)
            path = RunWriter.create(kind, config, Path(folder)).path
            execute(path, resume=False)
            runs = [path.parent / m["id"] for m in Run(path).members()] or [path]
            return [[{name: row[name] for name in KEPT} for row in Run(p).metrics("step")] for p in runs]
    finally:
        torch.set_num_threads(before)


def made_on() -> dict[str, Any]:
    """What decides the last bits: torch, and the vendor and vector instructions that its libraries choose by."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    vectors = [flag for flag in facts.get("flags", "").split() if flag.startswith(("avx", "fma", "amx"))]
    return {
        "torch": torch.__version__,
        "system": platform.system(),
        "machine": platform.machine(),
        "vendor": facts.get("vendor_id", platform.processor()),
        "vectors": vectors,
        "kernels": torch.backends.cpu.get_cpu_capability(),
    }


def main() -> None:
    prepare_libraries()
    golden = {
        "semantics": hdpo.SEMANTICS,
        "made_on": made_on(),
        "steps": {f"{lam:g}": steps_of(lam)[0] for lam in LAMBDAS},
    }
    FILE.write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")
    print(f"{FILE.name} holds semantics {hdpo.SEMANTICS}.")


if __name__ == "__main__":
    main()
