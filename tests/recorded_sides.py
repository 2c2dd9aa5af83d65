"""What Side by side shows at a first visit: `python -m tests.recorded_sides` asks the model and writes its answer anew."""

import json
from typing import Any

from hdpo.config import ModelConfig, ProblemConfig, PromptConfig, SamplingConfig
from hdpo.data.problems import bundled
from hdpo.work.interactive import Desk
from workbench.components import picker, side_setup, sides

PROBLEM = "steep-val-0002"  # the first cliff of the recorded scan


def record(desk: Desk) -> dict[str, Any]:
    """The question of the page's defaults, and its answer."""
    problem = next(p for p in bundled("steep", "validation") if p.id == PROBLEM)
    source = picker.ProblemSource(ProblemConfig(), "validation")
    chosen = (picker.ModelChoice(ModelConfig()), PromptConfig(), SamplingConfig())
    setup = side_setup.Setup(source, problem, *chosen, 4, 0, False, ("student", "privileged"), None)
    payload = setup.rollouts_question()
    return {"payload": payload, "result": desk.answer(payload, lambda event: None, lambda: False)}


if __name__ == "__main__":
    sides.RECORDED.write_text(json.dumps(record(Desk()), ensure_ascii=False), encoding="utf-8")
