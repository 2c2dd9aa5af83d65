"""Problem sets → `Problem` records: what is kept, what is left out and why, and the bundled sets.

Sets are streamed: what is held is the problems kept. Nothing here imports torch or transformers.
"""

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hdpo.assets import ASSETS
from hdpo.config import Information, ProblemConfig, TrainConfig, replace_knobs
from hdpo.data.columns import REQUIRED, WORDS, Fields, Source, fields_of
from hdpo.data.hub import hub_rows
from hdpo.data.readers import Row, file_rows
from hdpo.data.split import Choice, key_of, place_of, text_hash
from hdpo.errors import BadInput
from hdpo.gym import PREFIX as GYM
from hdpo.gym import gym_rows
from hdpo.hub import is_hub_id
from hdpo.records import Problem

BUNDLED_SETS = ASSETS / "problems"
BUNDLED = "bundled:"
ENDLESS = {"nvidia/OpenMathInstruct-2"}
MIXES = ("steep", "gentle", "stories")
SPLITS = ("train", "validation", "test")
ASIDE = {
    "elsewhere": "of the other side of the split or another source",
    "overlap": "left to the validation problems, which hold the same text",
    "unsolved": "without a worked solution",
    "renamed": "with a repeated id, renamed",
}
EACH = 1000  # rows between two words on how far reading is
TOLD = 20  # sentences on rows left out that a run keeps
MOST_COUNTED = 20_000  # problems of a set that are counted before anything is started
Candidate = tuple[str, Problem, str]  # place, problem, what makes the row unusable or ""
_HALF = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True)
class ProblemFile:
    """What reading gave. Every row that was read, up to where reading stopped, is counted once: as a problem, a duplicate,
    `elsewhere` (the other side of the split, or a source that is not wanted), `overlap` (a text that a validation set of
    its own holds), or in `skipped`, which has one sentence a row left out. `renamed` counts problems whose id another one
    had before them; they got one made from their text."""

    problems: tuple[Problem, ...]
    skipped: tuple[str, ...]
    read: int = 0
    duplicates: int = 0
    elsewhere: int = 0
    overlap: int = 0
    renamed: int = 0

    def counts(self) -> dict[str, Any]:
        """What a run keeps of it, and `told` reads."""
        unsolved = sum(not problem.solution for problem in self.problems)
        lengths = {"problems": len(self.problems), "skipped": len(self.skipped)}
        return vars(self) | lengths | {"unsolved": unsolved, "skipped_first": list(self.skipped[:TOLD])}


def told(counts: Mapping[str, Any]) -> str:
    """The sentence on what was read and left out, of `counts` or of a run's row of kind "data", of any version.

    >>> first = ["Line 2 of set.jsonl has no gold answer; it was left out."]
    >>> told({"read": 11, "problems": 5, "duplicates": 5, "skipped": 1, "skipped_first": first})
    '11 rows: 5 problems, 5 duplicates, 1 left out (first: Line 2 of set.jsonl has no gold answer)'
    """

    def n(name: str, words: str) -> str:
        return f"{counts[name]:,} {words.removesuffix('s') if counts[name] == 1 else words}"

    first = next((f" (first: {s.removesuffix('; it was left out.')})" for s in counts.get("skipped_first", ())), "")
    words = {"problems": "problems", "duplicates": "duplicates", "skipped": f"left out{first}"}
    parts = [n(name, words[name]) for name in words if name in counts]
    parts += [n(name, ASIDE[name]) for name in ASIDE if counts.get(name)]
    apart = f"; validation: {told(counts['validation'])}" if "validation" in counts else ""
    return f"{n('read', 'rows')}: {', '.join(parts)}{apart}"


def load_problems(data: ProblemConfig, split: str, solutions: bool = False) -> ProblemFile:
    """The train, validation or test problems of a set, or all: of a bundled set its train and validation. They come in
    the set's order, a hub set's in one seeded by the split's seed; reading stops after `data.limit` distinct problems.

    A hash divides a file or a hub set (see `Choice`). A validation set of its own is validation whole; its texts are
    left out of train, and all is both. Test is of the bundled sets alone, for the model card. A row without text or answer
    is skipped and told; of equal texts the first is kept.
    solutions: leave out rows without a worked solution, where the set has solutions at all.

    Raises BadInput for a missing or empty file, an unknown suffix, a broken line, a wrong encoding, unknown columns,
    and where not one row is usable or wanted.
    """
    _check_split(data, split)
    candidates = _candidates(_set(data.problems, split, data), solutions)
    divided = not (data.validation_problems or data.problems.startswith(BUNDLED))
    choice = Choice(data, split, hashed=divided, sources=data.source_names())
    if data.validation_problems:
        apart = _candidates(_set(data.validation_problems, "validation", data))
        if split == "validation":
            candidates, choice.sources = apart, ()
        elif split == "train":
            choice.held_out = {key_of(problem.text) for _, problem, wrong in apart if not wrong}
        else:
            candidates = itertools.chain(candidates, apart)
    found = _collect(candidates, choice)
    if not found.problems:
        raise BadInput(choice.advice(found.read))
    return found


def first_rows(data: ProblemConfig, most: int) -> list[Row]:
    """Of a set as it lies there, its columns not yet read."""
    return [row for _, row in itertools.islice(_set(data.problems, "train", data).rows, most)]


def divided(
    data: ProblemConfig, count: Counter[str], skipped: list[str], report: Callable[[int], None]
) -> Iterator[tuple[str, Problem]]:
    """(its side: train, validation or test; problem) of a whole set, as `load_problems` divides it, for who looks at each
    once: none is held. count and skipped are filled on the way (see `ProblemFile`); report is told how many rows were
    read. Raises BadInput as it does."""
    _check_split(data, "all")
    apart, held_out = data.validation_problems, set[int]()
    whole = SPLITS if data.problems.startswith(BUNDLED) else ("all",)
    for split in ("validation", "train") if apart else whole:
        own, found = bool(apart) and split == "validation", 0
        choice = Choice(data, split, False, () if own else data.source_names(), set() if own else held_out)
        candidates = _candidates(_set(apart if own else data.problems, split, data))
        for problem in _kept(_heard(candidates, count, report), choice, count, skipped):
            found += 1
            low = place_of(problem.text, data.split_seed) < data.validation_share
            yield (("validation" if low else "train") if split == "all" else split), problem
            if own:
                held_out.add(key_of(problem.text))
        if not found:
            raise BadInput(choice.advice(count["read"]))


def training_problems(config: TrainConfig) -> tuple[ProblemFile, ProblemFile]:
    """(what a run trains on, what it evaluates, read no further than it needs). Raises BadInput where either is lacking,
    or the solutions that its privileged prompts would show."""
    needed = config.evaluation.eval_problems
    first = replace(config.data, limit=min(needed, config.data.limit or needed))
    held_out = load_problems(first, config.evaluation.eval_split)
    shown = config.prompts.information is not Information.ANSWER
    train = load_problems(config.data, "train", solutions=shown)
    if shown and config.objective.lambda_ and not train.problems[0].solution:
        none = f"expected worked solutions, which privileged prompts show, found none in {config.data.problems}"
        way = "Give --information answer, name their column (--columns …,solution=worked), or train with --lambda 0."
        raise BadInput(f"problems: {none}. {way}")
    return train, held_out


def sides(config: TrainConfig) -> tuple[int, int]:
    """How many problems a session would train on and hold out, each counted up to MOST_COUNTED. Raises BadInput as
    `training_problems` does."""
    limit = min(config.data.limit or MOST_COUNTED, MOST_COUNTED)
    counted = replace_knobs(config, {"limit": limit, "eval_problems": limit})
    train, held_out = training_problems(counted)
    return len(train.problems), len(held_out.problems)


def bundled(mix: str, split: str) -> tuple[Problem, ...]:
    """One split of a bundled set: "steep" (many cliffs) or "gentle" (few); test is for the model card alone."""
    return load_problems(ProblemConfig(BUNDLED + mix), split).problems


def _bundled_file(mix: str, split: str) -> Path:
    if mix not in MIXES or split not in SPLITS:
        sets = f"{' and '.join(BUNDLED + name for name in MIXES)}, each with the splits {', '.join(SPLITS)}"
        found = f"found {BUNDLED}{mix} with split {split}. Choose from these, or give a file."
        raise BadInput(f"The bundled sets are {sets}; {found}")
    path = BUNDLED_SETS / mix / f"{split}.jsonl"
    if not path.is_file():
        way = "make them with `python -m hdpo.organism problems`, or take a complete checkout."
        raise BadInput(f"The bundled problems {mix}/{split}.jsonl are missing from {ASSETS}; {way}")
    return path


def _check_split(data: ProblemConfig, split: str) -> None:
    in_bundled, apart = data.problems.startswith(BUNDLED), data.validation_problems
    if in_bundled and data.columns and not apart:
        raise BadInput(f"{data.problems} is a bundled set and takes no column mapping; leave the mapping out.")
    if not in_bundled and split not in ("train", "validation", "all"):
        raise BadInput(f"A problem file has the splits train, validation and all, found {split!r}; choose of these.")
    if data.problems in ENDLESS and not data.limit:
        many = f"how many of {data.problems}'s millions to take"
        raise BadInput(f"limit: expected {many}, found none. Give --limit 50000.")
    if apart in ENDLESS:
        found = f"{apart}, which has millions. Save a part of it as a file."
        raise BadInput(f"validation-problems: expected a set that is read whole, found {found}")
    if apart and split == "test":
        found = f"found {apart} beside it. Leave one of them out."
        raise BadInput(f"validation-problems: the split test is the bundled set's own, {found}")
    if split == "validation" and not in_bundled and not apart and data.validation_share == 0:
        above = "a share above 0, since problems are to be held out, found 0"
        raise BadInput(f"validation-share: expected {above}. Raise it, or give --validation-problems FILE.")


def _set(source: str, split: str, data: ProblemConfig) -> Source:
    if source.startswith(BUNDLED):
        mix = source.removeprefix(BUNDLED)
        files = [_bundled_file(mix, name) for name in (("train", "validation") if split == "all" else (split,))]
        return Source(itertools.chain.from_iterable(map(file_rows, files)), source, mix, None)
    if source.startswith(GYM):
        return Source(gym_rows(source), source, source.removeprefix(GYM).partition("?")[0], data.mapping())
    if is_hub_id(source):
        return Source(hub_rows(source, data.split_seed), source, source.partition("/")[2], data.mapping())
    path = Path(source)
    return Source(file_rows(path), path.name, Path(path.name.removesuffix(".gz")).stem, data.mapping())


def _candidates(of: Source, solutions: bool = False) -> Iterator[Candidate]:
    """(place, problem, what makes the row unusable or "") of every row."""
    needed = WORDS if solutions else REQUIRED
    read, usable, first = 0, 0, ""
    for place, fields, lacking in fields_of(of):
        wrong = next((lacking[name] for name in needed if name in lacking), "")
        if not wrong and any(map(_HALF.search, fields.values())):
            wrong = "holds half of a surrogate pair, which is no character"
        read, usable, first = read + 1, usable + (not wrong), first or f"{place} {wrong}."
        yield place, _problem(fields, of.stem), wrong
    if not usable:
        raise BadInput(f"None of the {read} rows of {of.name} is usable. {first}")


def _problem(fields: Fields, stem: str) -> Problem:
    digits = re.search(r"[0-9]{1,9}", fields["level"])  # "Level 5" and 5 alike
    level = int(digits.group()) if digits else None
    values: dict[str, Any] = fields | {"id": fields["id"] or f"{stem}-{text_hash(fields['text'])}"}
    return Problem(**values | {"level": level})


def _heard(candidates: Iterable[Candidate], count: Counter[str], report: Callable[[int], None]) -> Iterator[Candidate]:
    for candidate in candidates:
        if count["read"] % EACH == 0:
            report(count["read"])
        yield candidate


def _collect(candidates: Iterable[Candidate], choice: Choice) -> ProblemFile:
    skipped: list[str] = []
    count: Counter[str] = Counter()
    problems = tuple(_kept(candidates, choice, count, skipped))
    return ProblemFile(problems, tuple(skipped), **count)


def _kept(
    candidates: Iterable[Candidate], choice: Choice, count: Counter[str], skipped: list[str]
) -> Iterator[Problem]:
    """The problems that stay, one at a time; what became of the other rows is counted as they are met."""
    seen: set[int] = set()
    ids: set[str] = set()
    for place, problem, wrong in candidates:
        count["read"] += 1
        if wrong:
            skipped.append(f"{place} {wrong}; it was left out.")
            continue
        where, key = choice.side(problem), key_of(problem.text)
        if where != "kept" or key in seen:
            count["duplicates" if where == "kept" else where] += 1
            continue
        seen.add(key)
        count["renamed"] += problem.id in ids
        while problem.id in ids:
            problem = replace(problem, id=f"{problem.id}-{text_hash(problem.text)}")
        ids.add(problem.id)
        yield problem
        if len(seen) == choice.data.limit:
            return
