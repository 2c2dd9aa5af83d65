"""Problems that are made: `reasoning-gym:TASK?seed=0&size=2000` of the package reasoning-gym, and the task's own scorer.

The same name makes the same problems again, here and in the process that grades. Of `gsm_symbolic` a worked solution comes
along (`answer_cot`); of every other task the answer alone.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from difflib import get_close_matches
from typing import Any
from urllib.parse import parse_qsl

from hdpo.errors import BadInput, first_line

PREFIX = "reasoning-gym:"
PLAIN = {"seed": 0, "size": 2000}
MOST = 100_000  # problems of one name: each reading makes them anew


def gym_rows(name: str) -> Iterator[tuple[str, dict[str, object]]]:
    """(place, row) of every problem. Raises BadInput where the package is not here, or makes no such task."""
    for number, entry in enumerate(_made(name), 1):
        worked = entry["metadata"].get("answer_cot", "").rpartition("####")[0].strip()
        solution = {"solution": f"{worked}\nThe answer is \\boxed{{{entry['answer']}}}."} if worked else {}
        source = entry["metadata"]["source_dataset"]
        yield (
            f"Problem {number} of {name}",
            {k: entry[k] for k in ("question", "answer")} | {"source": source, **solution},
        )


def scorer(name: str) -> Callable[[str, str], float]:
    """(answer, problem's text) → the task's score; 1 is right. Raises KeyError for a text that is not of this set."""
    dataset = _made(name)
    entries: dict[str, Any] = {}
    for entry in dataset:
        entries.setdefault(entry["question"].strip(), entry)
    return lambda answer, problem: float(dataset.score_answer(answer, entries[problem]))


def _made(name: str) -> Any:
    task, _, query = name.removeprefix(PREFIX).partition("?")
    settings: dict[str, Any] = dict(PLAIN)
    for key, text in parse_qsl(query):
        settings[key] = text
        with suppress(ValueError):
            settings[key] = json.loads(text)
    try:
        import reasoning_gym
        from reasoning_gym.factory import DATASETS
    except ImportError:
        way = "pip install reasoning-gym==0.1.25, or take a file"
        raise BadInput(f"problems: expected the package reasoning-gym for {name}, found none. {way}.") from None
    if task not in DATASETS:
        near = ", ".join(get_close_matches(task, DATASETS, 3, 0.4)) or "chain_sum"
        raise BadInput(f"problems: expected a task of reasoning-gym, such as {near}, found {task!r}. Choose one.")
    try:
        made = reasoning_gym.create_dataset(task, **settings)
        if len(made) > MOST:
            raise ValueError(f"size above {MOST:,}")
        made[0]  # some settings fail only there
        return made
    except Exception as e:  # a task refuses its settings in any way
        form = f"{PREFIX}{task}?seed=0&size=2000"
        raise BadInput(
            f"problems: expected settings of {task}, found '{first_line(e)}' for {query!r}. Write {form}."
        ) from e
