"""Others' rollouts as a run: their census by their labels at once, then our verdicts beside, as far as there are golds.

What is held is the prompts, and the rollouts of CHUNK of them: rows come in any order, so they are first laid aside by
chunk on the disk. Without labels our verdicts are the outcomes. No model, and no torch.
"""

import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hdpo.config import ImportConfig
from hdpo.data.problems import EACH, TOLD, told
from hdpo.data.rollouts import Log, gold_of, opened
from hdpo.data.split import text_hash
from hdpo.errors import BadInput
from hdpo.evidence.stats import mean_pass_at_k
from hdpo.grading.explain import parse
from hdpo.grading.graders import grader_of
from hdpo.grading.verify import VerifierPool
from hdpo.record.files import writing
from hdpo.record.folder import Run, RunWriter
from hdpo.record.progress import Report
from hdpo.records import Group, Outcome, Problem, Rollout, problem_row

CHUNK = 256  # prompts of a part
VERDICTS = "verdicts"  # tables: a row a rollout that has a label, and our verdict on it
LABELS = {
    True: Outcome.CORRECT,
    False: Outcome.WRONG,
    None: Outcome.GRADER_ERROR,
}  # a rollout without one has no verdict
Rows = list[dict[str, Any]]


def import_rollouts(writer: RunWriter, config: ImportConfig, report: Report) -> None:
    """The rollouts in parts, as of a scan, and a `verdicts` table for each. A resumed one goes on behind the last part.
    Raises BadInput for what `opened` refuses, and where a person's own grader fails."""
    log, run = opened(config.data), Run(writer.path)
    with VerifierPool(grader=config.data.grader) as pool:
        written = len(run.chunks())
        with TemporaryDirectory(f".{os.getpid()}.tmp", ".rows.", writer.path) as aside, writing(writer.path):
            problems, facts = lay_aside(log, config, Path(aside), report)
            if written and [p["id"] for p in run.table("problems", 0)] != [p.id for p in problems]:
                raise BadInput("resume: expected the file that this import began with, found another. Import it anew.")
            writer.table("problems", 0, [vars(p) for p in problems])
            writer.metric("import", 0, **facts)
            for at in range(written * CHUNK, len(problems), CHUNK):
                report("sorting by prompt", at, len(problems), "problems")
                number, part = at // CHUNK, problems[at : at + CHUNK]
                rows = sorted(map(json.loads, (Path(aside) / str(number)).open(encoding="utf-8")), key=lambda r: r[0])
                write(writer, number, part, rows, None if facts["labels"] else pool)
        if facts["labels"] and facts["golds"]:
            for number in range(len(run.parts())):
                if number not in run.tables(VERDICTS):
                    tell = partial(report, "grading", number * CHUNK, len(problems), "problems")
                    writer.table(VERDICTS, number, verdicts(run.rollouts(number), pool, tell))
    report("done", len(problems), len(problems), "problems")


def lay_aside(log: Log, config: ImportConfig, folder: Path, report: Report) -> tuple[list[Problem], dict[str, Any]]:
    """The prompts in the order of their first rows, each that was drawn at another step anew, and what was read; `folder`
    gets a file a chunk, lines of [number of the prompt, response, right, tokens]."""
    grader, stem, limit = grader_of(config.data.grader), log.path.name.partition(".")[0], config.data.limit
    numbers: dict[str, int] = {}
    problems: list[Problem] = []
    count: Counter[str] = Counter(labels=0, golds=0)
    skipped: list[str] = []

    def lines() -> Iterator[tuple[int, Any]]:
        for place, found, wrong in log.said():
            if count["read"] % EACH == 0:
                report(f"reading: {count['rollouts']:,} rollouts", 0, 0, "rollouts")
            count["read"] += 1
            if wrong:
                count["skipped"] += 1
                skipped.extend([f"{place} {wrong}; it was left out."] * (len(skipped) < TOLD))
            for said in found:
                name = f"{stem}-{text_hash(said.prompt)}" + (f"@{said.step}" if said.step is not None else "")
                if (number := numbers.get(name, len(numbers))) == len(numbers):
                    if len(numbers) == (limit or -1):
                        continue
                    numbers[name] = number
                    gold = gold_of(said.gold, grader)
                    problems.append(Problem(name, said.prompt, said.gold if said.gold != gold else "", gold, stem))
                    count["golds"] += bool(gold)
                count["rollouts"] += 1
                count["labels"] += said.right is not None
                yield number, (number, said.response, said.right, said.tokens)

    for chunk, part in groupby(lines(), key=lambda line: line[0] // CHUNK):
        with (folder / str(chunk)).open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for _, line in part)
    facts = {**count, "problems": len(problems), "skipped": count["skipped"], "skipped_first": skipped}
    read = f"{told(facts)}; {count['rollouts']:,} rollouts, {count['labels']:,} of them labelled."
    return problems, facts | {"told": [*log.told(config.data.grader), read]}


def write(
    writer: RunWriter, number: int, part: Sequence[Problem], rows: Sequence[Any], pool: VerifierPool | None
) -> None:
    """One part. rows: those of `lay_aside` with its prompts, in their order. pool: who says what is right without labels."""
    golds = [part[at % CHUNK].answer for at, *_ in rows]
    items, texts = (
        [(row[1], gold) for row, gold in zip(rows, golds, strict=True)],
        [part[at % CHUNK].text for at, *_ in rows],
    )
    judged = pool.grade(items, texts) if pool else ()
    fine = pool.gold_ok([p.answer for p in part]) if pool else [True] * len(part)
    of: list[list[Rollout]] = [[] for _ in part]
    for i, (at, text, right, _) in enumerate(rows):
        group = of[at % CHUNK]
        said = (judged[i].outcome, judged[i].answer) if judged else (LABELS[right], "")
        group.append(Rollout(part[at % CHUNK].id, len(group), (), (), text, *said))
    groups = [Group(p, (), tuple(of[i]), gradable=fine[i]) for i, p in enumerate(part)]
    writer.rollouts(number, groups, "student", tokens=[row[3] for row in rows], logprob_sum=[None] * len(rows))
    for g in groups:
        row = problem_row(g) | {"length": None}
        writer.metric("scan_group", number, **{"group": row.pop("kind"), **row})


def verdicts(rows: Rows, pool: VerifierPool, tell: Callable[[], None]) -> Rows:
    """Ours beside the labels of a part's rollouts; GRADER_ERROR where nobody can be right about the gold."""
    found: Rows = []
    for at in range(0, len(rows), EACH):
        tell()
        several = rows[at : at + EACH]
        fine = pool.gold_ok([r["gold"] for r in several])
        judged = pool.grade([(r["text"], r["gold"]) for r in several], [r["problem"] for r in several])
        for r, v, ok in zip(several, judged, fine, strict=True):
            ours = (v.outcome if ok else Outcome.GRADER_ERROR).value
            place = {"problem_id": r["problem_id"], "index": r["index"], "label": r["outcome"]}
            found.append(place | {"verdict": ours, "answer": v.answer, "rule": v.rule})
    return found


def compared(run: Run) -> Rows:
    """Our verdicts so far, beside the labels."""
    return [row for number in run.tables(VERDICTS) for row in run.table(VERDICTS, number)]


def errors(rows: Rows) -> Rows:
    """The verifier held to the labels: false negatives, of the rollouts that are labelled right, and false positives, of the
    others. share with low and high: the mean over prompts, which are the unit (`mean_pass_at_k` of one); None without any."""
    found = []
    for what, label in (("false negatives", Outcome.CORRECT), ("false positives", Outcome.WRONG)):
        of: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for r in rows:
            if r["label"] == label.value and Outcome(r["verdict"]).is_graded:
                of[r["problem_id"]][0] += 1
                of[r["problem_id"]][1] += differs(r)
        counts = [(n, c) for n, c in of.values()]
        e = mean_pass_at_k(counts, 1) if counts else None
        facts = {"error": what, "rollouts": sum(n for n, _ in counts), "found": sum(c for _, c in counts)}
        interval = {name: e and getattr(e, at) for name, at in (("share", "value"), ("low", "low"), ("high", "high"))}
        found.append(facts | {"prompts": len(counts)} | interval)
    return found


def unjudged(rows: Rows) -> int:
    """Labelled rollouts on which we have no verdict."""
    return sum(r["label"] != Outcome.GRADER_ERROR.value and not Outcome(r["verdict"]).is_graded for r in rows)


def differs(row: Mapping[str, Any]) -> bool:
    """Whether label and verdict contradict each other; without one of them they do not."""
    label, ours = Outcome(row["label"]), Outcome(row["verdict"])
    return label.is_graded and ours.is_graded and label.is_correct != ours.is_correct


def disagreements(run: Run, rows: Rows) -> Rows:
    """Where they do, with both parses, to be read by a person."""
    grader, texts = grader_of(run.load_config().data.grader), {p["id"]: p for p in run.table("problems", 0)}
    found = []
    for r in filter(differs, rows):
        p = texts[r["problem_id"]]
        parses = {"gold_read": parse(grader, p["answer"]), "answer_read": parse(grader, r["answer"])}
        found.append({**r, "gold": p["answer"], **parses, "problem": p["text"]})
    return found
