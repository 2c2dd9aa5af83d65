"""All problems of a file, as a run reads them."""

from collections.abc import Mapping
from pathlib import Path

from hdpo.config import ProblemConfig
from hdpo.data.problems import ProblemFile, load_problems


def read_problems(path: Path, mapping: Mapping[str, str] | None = None, limit: int = 0) -> ProblemFile:
    columns = ",".join(f"{ours}={theirs}" for ours, theirs in (mapping or {}).items())
    return load_problems(ProblemConfig(str(path), columns=columns, limit=limit), "all")
