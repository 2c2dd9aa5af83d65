"""Others' rollouts: rows of TRL's completion logs, of RLLoggingBoard, or with a list of responses each → prompt, gold,
response and label.

Which it is, is known by the columns and what stands in them; a mapping names those that are called otherwise.
"""

import itertools
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from hdpo.config import ProblemConfig
from hdpo.data.columns import NAMES as PROBLEM_NAMES
from hdpo.data.columns import as_text, cells, final_line
from hdpo.data.readers import Row, file_rows
from hdpo.errors import BadInput, brief
from hdpo.grading.boxes import last_box
from hdpo.grading.graders import Grader

LOOKED_AT = 100  # rows by which a file is known
SEVERAL = ("responses", "completions", "samples", "outputs", "generations", "solutions", "rollouts")
NAMES = {  # of each field the first name that a file has counts; letter case is ignored
    "text": ("prompt", "question", "problem", "query", "instruction", "input", "text"),
    "answer": ("ground_truth", "gold", "target", *PROBLEM_NAMES["answer"], "solution"),
    "response": ("completion", "response", "generation", "output", *SEVERAL),
    "label": ("is_correct", "correct", "label", "labels", "accuracy_reward", "reward", "rewards", "score", "scores"),
    "step": ("step", "global_step"),
    "tokens": ("response_tokens",),
}
CALLED = {"text": "prompt", "answer": "gold", "response": "response", "label": "label", "step": "step"}
INSIDE = ("solution", "response", "completion", "generation", "output", "text", "content")  # of an object: the response
VERDICTS = {"true": 1.0, "correct": 1.0, "right": 1.0, "false": 0.0, "incorrect": 0.0, "wrong": 0.0}
EXAMPLE = "text=prompt,response=completion,answer=solution,label=accuracy_reward>=0.5"
_HALF = re.compile(r"[\ud800-\udfff]")


class Said(NamedTuple):
    """One rollout. right: by its label, None without one. step: of the training that drew it, tokens: of the response,
    None where the file does not say."""

    prompt: str
    gold: str
    step: int | None
    response: str
    right: bool | None
    tokens: int | None


@dataclass(frozen=True)
class Log:
    """A file, or a folder of parts, of rollouts. fields: ours → its column, of those that it has; spread: the columns that
    hold an object with a response each. least: from which label on a response is right. head: the first rows."""

    path: Path
    fields: Mapping[str, str]
    spread: tuple[str, ...]
    least: float
    head: tuple[Row, ...]

    def said(self) -> Iterator[tuple[str, list[Said], str]]:
        """(place, rollouts, what is wrong with it or "") of each row."""
        return ((place, *self.of_row(row)) for place, row in file_rows(self.path))

    def of_row(self, row: Row) -> tuple[list[Said], str]:
        raw = cells(row, self.fields)
        prompt, gold, step = (spoken(raw.get(name)) for name in ("text", "answer", "step"))
        several: Any = [row.get(column) for column in self.spread] or raw.get("response")
        labels, tokens = raw.get("label"), raw.get("tokens")
        if not isinstance(several, list) or is_talk(several):
            several, labels = [several], [labels]
        if not isinstance(labels, list):  # one for all is a count or a mean, and says nothing of each
            labels = [None] * len(several)
        if not prompt or len(labels) != len(several):
            return [], f"has {len(labels)} labels of {len(several)} responses" if prompt else "has no prompt"
        known = prompt, gold, int(step) if re.fullmatch(r"\d{1,9}", step) else None
        length = len(tokens) if isinstance(tokens, list) else None
        found = []
        for response, label in zip(several, labels, strict=True):
            if isinstance(response, dict):
                label = first(response, NAMES["label"]) if label is None else label
                response = first(response, INSIDE)
            if response is not None:
                value = number(label)
                found.append(Said(*known, spoken(response), None if value is None else value >= self.least, length))
        if any(_HALF.search(prompt + gold + s.response) for s in found):
            return [], "holds half of a surrogate pair, which is no character"
        return found, "" if found else "has no response"

    @property
    def form(self) -> str:
        """What the file is, in words."""
        columns = {column.strip().lower() for row in self.head for column in row}
        if {"completion", "advantage"} <= columns:
            return "a completion log of TRL"
        if "response" in columns and columns & {"response_tokens", "ref_logprobs", "token_rewards"}:
            return "a log for RLLoggingBoard"
        several = self.spread or any(isinstance(r, list) and not is_talk(r) for r in self._cells("response"))
        return "rows with several responses each" if several else "rows with one response each"

    def told(self, grader: str) -> list[str]:
        """How the file is read, and what to mend beside this grader, for a person."""
        read = [f"{words} from {self.fields[name]}" for name, words in CALLED.items() if name in self.fields]
        read += [f"responses from {', '.join(self.spread)}"] * bool(self.spread)
        said = [f"{self.path.name} is {self.form}: {brief(', '.join(read), 400)}."]
        if "step" in self.fields:
            said += ["The same prompt at another step is a group of its own, and pass@k goes over all steps."]
        labels = itertools.chain.from_iterable(x if isinstance(x, list) else [x] for x in self._cells("label"))
        if odd := next((x for x in map(number, labels) if x is not None and x not in (-1, 0, 1)), None):
            way = f"--columns …,label={self.fields['label']}>=X counts from X on"
            said += [f"Labels count as right from {self.least:g} on, and there is {odd:g} among them; {way}."]
        if self.grader and not grader.startswith("pattern:"):
            said += [f"Its golds are worked, and end in lines of one form: --grader '{self.grader}' reads answers so."]
        return said

    @property
    def grader(self) -> str:
        """The one that reads answers as they stand in the golds, where those are worked and their last lines alike; else ""."""
        golds = [spoken(gold).splitlines() for gold in self._cells("answer")]
        mark = marked([lines[-1] for lines in golds]) if all(len(lines) > 1 for lines in golds) else ""
        return f"pattern:{mark}(.+)" if mark else ""

    def _cells(self, field: str) -> list[object]:
        return [raw[field] for row in self.head if (raw := cells(row, self.fields)).get(field) is not None]


def opened(data: ProblemConfig) -> Log:
    """The rollouts that `data.problems` names. Raises BadInput for what is no file or cannot be read, has no prompts or
    responses that are known by name or mapping, or neither labels nor golds."""
    if data.problems == ProblemConfig.problems:
        raise BadInput("import: expected a file of rollouts, found none. Name it: python -m hdpo import FILE")
    path = Path(data.problems).expanduser()
    head = tuple(row for _, row in itertools.islice(file_rows(path), LOOKED_AT))
    columns = list(dict.fromkeys(column.strip() for row in head for column in row))
    at = {column.lower(): column for column in columns}
    fields = {f: at[name] for f, names in NAMES.items() if (name := next((n for n in names if n in at), ""))}
    scored = [c for c in columns if re.search("accura|correct|reward", c, re.I)]
    if "label" not in fields and scored:
        fields["label"] = min(scored, key=lambda c: not re.search("accura|correct", c, re.I))
    given = {field: column.partition(">=") for field, column in (data.mapping() or {}).items()}
    fields |= {field: column for field, (column, _, _) in given.items()}
    spread = tuple(c for c in columns if "response" not in given and any(is_response(row.get(c)) for row in head))
    if spread:
        fields = {f: column for f, column in fields.items() if f != "response" and column not in spread}
    wrong = [f for f in given if f not in NAMES] + [c for c, *_ in given.values() if c.partition(".")[0] not in columns]
    wrong += [CALLED[f] for f in ("text", "response") if f not in fields and not (spread and f == "response")]
    least = number(given.get("label", ("", "", ""))[2])
    log = Log(path, fields, spread, 1.0 if least is None else least, head)
    said = [s for row in head for s in log.of_row(row)[0]] if not wrong else []
    if said and not any(s.gold or s.right is not None for s in said):
        wrong = ["label and no gold"]
    if wrong or not said:
        lacking = f"no {', no '.join(wrong)}" if wrong else "no row with both"
        found = f"found {lacking}; its columns are {brief(', '.join(columns), 400) or 'none'}"
        raise BadInput(f"{path.name}: expected prompts with responses, {found}. Name them: --columns '{EXAMPLE}'.")
    return log


def gold_of(text: str, grader: Grader) -> str:
    r"""The gold answer, where a gold is a worked solution: behind ####, as the grader's pattern finds it, or in the last box.

    >>> gold_of("1+1=2\n#### 2", Grader("math")), gold_of("so\nA: 18", Grader("pattern", text="A: (.+)"))
    ('2', '18')
    """
    if "####" in text:
        return str(final_line(text)["answer"])
    if grader.kind == "pattern" and (found := list(re.finditer(grader.text, text))):
        return (found[-1][found[-1].re.groups] or "").strip()
    return text[slice(*box)].strip() if (box := last_box(text)) else text


def marked(lines: Sequence[str]) -> str:
    """What final lines have in common before their answers, as a pattern may have it; "" where that is nothing.

    >>> marked(["A: 18", "A: 3"]), marked(["18 eggs", "3"])
    ('A: ', '')
    """
    mark = re.match(r"[\w #]*[:#] *", os.path.commonprefix(list(lines)))
    return mark[0] if mark else ""


def spoken(value: object) -> str:
    """A cell as text: a text, a number, or what a conversation says."""
    if is_talk(value):
        return "\n\n".join(as_text(turn.get("content"))[0] for turn in value)  # type: ignore[attr-defined]
    return as_text(value)[0]


def is_talk(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, dict) and "role" in v for v in value)


def is_response(value: object) -> bool:
    return isinstance(value, dict) and isinstance(first(value, INSIDE), str)


def first(values: Mapping[str, object], names: Sequence[str]) -> object:
    return next((values[name] for name in names if values.get(name) is not None), None)


def number(label: object) -> float | None:
    """
    >>> number(True), number("Correct"), number("0.5"), number(float("nan")), number("maybe")
    (1.0, 1.0, 0.5, None, None)
    """
    if isinstance(label, str):
        label = VERDICTS.get(label.strip().lower(), label)
    try:
        value = float(label)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None
