"""What a hub id is, and the hub's refusals as sentences: for models and problem sets alike."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hdpo.errors import BadInput

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
FILES = {".jsonl", ".csv", ".tsv", ".gz", ".parquet", ".json", ".gguf"}


def is_hub_id(name: str) -> bool:
    """Whether a name that is no path here, and no file's, has the form of a hub id.

    >>> [is_hub_id(n) for n in ("Qwen/Qwen2.5-0.5B-Instruct", "bundled", "/models/mine", "data/mine.jsonl")]
    [True, False, False, False]
    """
    return bool(HUB_ID.fullmatch(name)) and Path(name).suffix not in FILES and not Path(name).expanduser().exists()


@contextmanager
def hub_errors(what: str, way_on: str) -> Iterator[None]:
    """The hub's refusals as sentences; way_on: what a person without it can do."""
    from huggingface_hub import errors

    agree = f"Agree on its page and log in with `hf auth login`, or {way_on}"
    check = f"Check the spelling, log in with `hf auth login` if it is private, or {way_on}"
    fetch = f"Fetch it where there is a network (`hf download`), copy the cache folder, or {way_on}"
    offline = f"a network or a copy in the cache, found neither. {fetch}"
    refusals: dict[type[Exception], str] = {
        errors.GatedRepoError: f"a free one, found one that asks for an agreement first. {agree}",
        errors.RevisionNotFoundError: "that revision, found none of that name. Leave it out for the newest, or check it",
        errors.RepositoryNotFoundError: f"it on the hub, found nothing public of that name. {check}",
        errors.LocalEntryNotFoundError: offline,
        ConnectionError: offline,
    }
    try:
        yield
    except tuple(refusals) as e:
        words = next(words for refusal, words in refusals.items() if isinstance(e, refusal))
        raise BadInput(f"{what}: expected {words}.") from e
