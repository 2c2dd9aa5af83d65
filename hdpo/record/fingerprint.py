"""Whether the numbers of two runs measure the same thing: what each was made of, in short comparable texts."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

UNKNOWN = ""
Names = tuple[str, ...]


@dataclass(frozen=True)
class Fingerprint:
    """One text a field; UNKNOWN where a run does not say, as runs from before there were fingerprints do."""

    model: str = UNKNOWN  # digest of the weights, or a hub model's commit; and the dtype
    adapter: str = UNKNOWN  # digest of the one it began with, or 'none'
    problems: str = UNKNOWN  # digest of the texts and golds that are measured
    split: str = UNKNOWN
    wording: str = UNKNOWN  # digest of the student's wording and the chat template
    sampling: str = UNKNOWN
    samples: str = UNKNOWN  # n a problem, and the k of pass@k
    grader: str = UNKNOWN  # `hdpo.grading.RULES` and math-verify's version
    semantics: str = UNKNOWN  # `hdpo.SEMANTICS`
    training_problems: str = UNKNOWN  # like problems; 'none' where nothing is trained
    privileged: str = UNKNOWN  # digest of the privileged wording and of what it tells


# What must be one and the same before two results are compared. The rest belongs to the arm, as λ and the seed do.
TRAINING = ("training_problems", "privileged")
MEASURED = tuple(f.name for f in fields(Fingerprint) if f.name not in TRAINING)


def differences(a: Fingerprint, b: Fingerprint, among: Sequence[str] = MEASURED) -> tuple[Names, Names]:
    """Names of the fields that differ, and of those that one of the two does not know.

    >>> differences(Fingerprint(split="test", model="a"), Fingerprint(split="train"), ("split", "model", "grader"))
    (('split',), ('model', 'grader'))
    """
    x, y = asdict(a), asdict(b)
    unknown = tuple(n for n in among if UNKNOWN in (x[n], y[n]))
    return tuple(n for n in among if n not in unknown and x[n] != y[n]), unknown


def comparison_words(a: Fingerprint, b: Fingerprint) -> str:
    """Whether two results may be compared, in a sentence that names the fields."""
    unequal, unknown = differences(a, b)
    if unequal:
        return f"Not to be compared: they differ in {spoken(unequal)}."
    if unknown:
        return f"Whether they measure the same is unknown: an older run does not say its {spoken(unknown)}."
    return "They measure the same."


def spoken(names: Sequence[str]) -> str:
    """
    >>> spoken(("training_problems",)), spoken(("model", "split", "grader"))
    ('training problems', 'model, split and grader')
    """
    *before, last = [n.replace("_", " ") for n in names]
    return f"{', '.join(before)} and {last}" if before else last


def digest(texts: Iterable[str]) -> str:
    """Of texts in their order, each apart from the next.

    >>> digest(["ab", "c"]) == digest(["a", "bc"])
    False
    """
    found = hashlib.sha256()
    for text in texts:
        found.update(f"{len(text)}:{text}".encode())
    return found.hexdigest()[:16]


def digest_of_files(files: Iterable[Path]) -> str:
    """Of the files' contents in the order given."""
    contents = []
    for file in files:
        with file.open("rb") as f:
            contents.append(hashlib.file_digest(f, "sha256").hexdigest())
    return digest(contents)
