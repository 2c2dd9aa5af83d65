"""The run folder: its only writer and its only reader. Readable while it is written; never a pickle; no torch.

    runs/<id>/
      config.json            frozen at start: kind, config, versions, command, fingerprint
      name.txt               what a person calls it (renamed at will)
      status.json            state, phase, done, total, seconds left; pid and its start time
      metrics.jsonl          one row a step, an evaluation, a resume; append-only
      rollouts/              closed Parquet parts, one row a rollout; parts.jsonl is the small summary beside them
      confirm.jsonl          of a scan: fresh rollouts of its cliffs, one row a batch; append-only, by whoever draws
      tables/                closed Parquet tables: per-problem evaluation counts, the per-token gap
      checkpoints/step-N/    adapter and AdamW moments (safetensors), state.json
      log.txt                what the process printed
      lock                   held by the process that writes (`hdpo.processes.holding`)

One process writes at a time: whoever executes the run holds `lock`, and the system frees it with that process. A crash
leaves no lying status: `running` with a dead process reads as `killed`, on another machine that has long been silent as
`not heard of`; a person may take that over. After a resume the rows beyond the checkpoint are superseded: each row
carries its attempt, a `resume` row says from which step, and the reader keeps the last.

This file is long: what is written and how it is read are held together here.
"""

import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from enum import Enum
from functools import cache
from itertools import count, takewhile
from pathlib import Path
from typing import Any, Self

import psutil
from safetensors import SafetensorError, safe_open

import hdpo
from hdpo.assets import ASSETS
from hdpo.config import KINDS, from_json, to_json
from hdpo.errors import BadInput, HdpoError
from hdpo.processes import Life, Start, held, host_of, life, me
from hdpo.record import files
from hdpo.record.fingerprint import Fingerprint
from hdpo.record.shapes import STATUS, is_frozen, is_member, is_status
from hdpo.records import Group, GroupKind

ASSET_RUNS = ASSETS / "runs"
CHUNK_TABLE = "chunk"  # tables of an evaluation that is under way
ONCE = ("data", "gold", "rehearsal")  # rows that each attempt writes again
HEARD = 180.0  # seconds after which a process on another machine that wrote nothing counts as not heard of


class State(str, Enum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"
    KILLED = "killed"
    UNHEARD = "not heard of"  # it runs, or ran, on another machine

    @property
    def ended(self) -> bool:
        return self not in (State.QUEUED, State.RUNNING, State.UNHEARD)


@dataclass(frozen=True)
class Status:
    """Where a run stands. done and total count steps (train), problems (scan, evaluate) or members (sweep)."""

    state: State
    phase: str = ""
    done: int = 0
    total: int = 0
    seconds_left: float | None = None
    message: str = ""
    pid: int = 0
    pid_start: Start = 0.0
    updated: float = 0.0
    bad_input: bool = False


def runs_root() -> Path:
    """`HDPO_RUNS`, or `runs/` in the working directory."""
    return Path(os.environ.get("HDPO_RUNS") or "runs").expanduser().resolve()


@cache
def versions() -> dict[str, str]:
    """Of everything that can change a number: the project with a digest of the engine's sources, and libraries."""
    from importlib import metadata  # of all that is imported here the slowest, and only a new run asks

    sources = b"".join(file.read_bytes() for file in sorted(Path(hdpo.__file__).parent.rglob("*.py")))
    found = {"hdpo": f"{hdpo.__version__}+{hashlib.sha256(sources).hexdigest()[:8]}"}
    for name in ("torch", "transformers", "peft", "math-verify", "numpy", "safetensors"):
        found[name] = "absent"
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def new_id(kind: str, root: Path) -> str:
    """Readable, sortable by time, and free: `20261122-101500-train-3f2a`."""
    run_id = f"{time.strftime('%Y%m%d-%H%M%S')}-{kind}-{secrets.token_hex(2)}"
    return new_id(kind, root) if (root / run_id).exists() else run_id


@dataclass
class RunWriter:
    """The only writer of a run folder. One process holds it at a time."""

    path: Path
    attempt: int
    also: Callable[[dict[str, Any]], None] = lambda row: None  # is told each row of metrics.jsonl that was written

    @classmethod
    def create(cls, kind: str, config: Any, root: Path | None = None, name: str = "", command: str = "") -> Self:
        """A new folder with its frozen config, state queued. Raises HdpoError where nothing can be written."""
        root = root or runs_root()
        path = root / new_id(kind, root)
        try:
            for part in ("rollouts", "tables", "checkpoints"):
                (path / part).mkdir(parents=True)
        except OSError as e:
            found = f"expected to write to {root}, found '{e.strerror or e}'"
            raise HdpoError(f"runs: {found}. Choose another place with HDPO_RUNS.") from e
        made = {"versions": versions(), "created": time.time(), "command": command}
        files.write_aside(path / "config.json", json.dumps({"kind": kind, "config": to_json(config), **made}, indent=1))
        if name:
            files.write_aside(path / "name.txt", name)
        writer = cls(path, 1)
        writer.status(State.QUEUED, phase="waiting for its turn")
        return writer

    @classmethod
    def resume(cls, path: Path, step: int, passed_over: Sequence[str] = ()) -> Self:
        """Open for a further attempt that goes on after `step`; rows beyond it are superseded from now on. passed_over:
        what was wrong with checkpoints beyond that step."""
        Run(path).load_config()  # what cannot be read is refused before anything changes
        for left in path.rglob(".*.tmp"):  # what killed processes were writing aside
            pid = left.name.split(".")[-2]
            if not (pid.isdigit() and psutil.pid_exists(int(pid))):
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        writer = cls(path, 1 + max((r["attempt"] for r in files.read_lines(path / "metrics.jsonl")), default=0))
        for name in ("metrics.jsonl", "rollouts/parts.jsonl"):
            files.cut_torn_line(path / name)
        if writer.attempt > 1:
            writer.metric("resume", step, passed_over=list(passed_over))
        return writer

    def pin(self, **facts: Any) -> None:
        """Put what the first attempt found out (a hub model's commit, the fingerprint) into config.json."""
        files.write_aside(self.path / "config.json", json.dumps({**Run(self.path).frozen(), **facts}, indent=1))

    def status(self, state: State, **facts: Any) -> None:
        """phase, done, total, seconds_left, message; the process adds itself."""
        pid, start = me()
        row = {"state": state.value, **facts, "pid": pid, "pid_start": start, "updated": time.time()}
        files.write_aside(self.path / "status.json", json.dumps(row))

    def metric(self, kind: str, step: int, **values: Any) -> None:
        """Append one row to metrics.jsonl; the line is whole or, after a crash, ignored."""
        row = {"kind": kind, "step": step, "attempt": self.attempt, **values}
        files.append_line(self.path / "metrics.jsonl", row)
        self.also(row)

    def rollouts(self, step: int, groups: Sequence[Group], role: str, **extra: Sequence[Any]) -> None:
        """Close one Parquet part with the rollouts of `groups`; role is 'student' or 'privileged', extra are further
        columns, one value a rollout (advantages, accepted)."""
        rows: list[dict[str, Any]] = []
        for g in groups:
            p = g.problem
            asked = {"step": step, "role": role, "problem_id": p.id, "source": p.source, "level": p.level}
            asked |= {"problem": p.text, "gold": p.answer, "kind": g.kind.value, "doubt": g.doubt.value}
            for r in g.rollouts:
                said = {"index": r.index, "text": r.text, "outcome": r.outcome.value, "answer": r.answer}
                said |= {"tokens": len(r.token_ids), "token_ids": r.token_ids, "logprob_sum": float(sum(r.logprobs))}
                rows.append(asked | said)
        for row, *values in zip(rows, *extra.values(), strict=True):
            row.update(zip(extra, values, strict=True))
        part = f"step-{step:06d}-{role}-a{self.attempt}.parquet" if rows else ""
        if rows:
            files.write_table(self.path / "rollouts" / part, rows)
        kinds = {k.value: sum(g.kind is k for g in groups) for k in GroupKind}
        summary = {"step": step, "attempt": self.attempt, "role": role, "part": part, "rows": len(rows)}
        files.append_line(self.path / "rollouts" / "parts.jsonl", {**summary, "groups": kinds})

    def look(self, step: int, **values: Any) -> None:
        """Append one batch of fresh rollouts of a scan's cliff (`hdpo.method.confirm`)."""
        path = Run(self.path).looks_file
        path.parent.mkdir(parents=True, exist_ok=True)
        files.cut_torn_line(path)  # of a crash
        files.append_line(path, {"kind": "confirm", "step": step, "attempt": self.attempt, **values})

    def table(self, name: str, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Close one table, `tables/<name>-step-N.parquet`; written again by a resumed run, it is replaced."""
        if rows:
            files.write_table(self.path / "tables" / f"{name}-step-{step:06d}.parquet", rows)

    def drop_tables(self, name: str) -> None:
        for path in Run(self.path).tables(name).values():
            path.unlink()

    @contextmanager
    def checkpoint(self, step: int) -> Iterator[Path]:
        """A folder to write a checkpoint into, `state.json` among it; after the block it is flushed, stands in its
        place, and all but the newest two and the best go. Nothing half stays; raises HdpoError for a full disk."""
        with files.beside(self.path / "checkpoints" / f"step-{step:06d}") as aside:
            aside.mkdir(parents=True)
            yield aside
            state = {**files.read_json(aside / "state.json"), "files": sorted(f.name for f in aside.iterdir())}
            (aside / "state.json").write_text(json.dumps(state), encoding="utf-8")
            for f in aside.iterdir():
                with f.open("rb+") as handle:
                    os.fsync(handle.fileno())
        run = Run(self.path)
        for old in run.checkpoints()[:-2]:
            if old.name != f"step-{run.best() or 0:06d}":
                shutil.rmtree(old, ignore_errors=True)


class SilentWriter(RunWriter):
    """What every rank but the first has in hand: it knows the folder, and writes nothing into it."""

    def _nothing(self, *args: Any, **kwargs: Any) -> None:
        pass

    pin = status = metric = rollouts = table = drop_tables = _nothing


@dataclass(frozen=True)
class Run:
    """The only reader of a run folder. Whatever is damaged is left out and named by `damage`."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def recorded(self) -> bool:
        """Whether it came with the project (`assets/runs`) and is read only."""
        return self.path.parent == ASSET_RUNS

    def refuse_recorded(self, way: str) -> None:
        """Raises BadInput for a run that came with the project."""
        if self.recorded:
            raise BadInput(f"{self.id}: expected a run of yours, found one that comes with the project. {way}")

    @property
    def name(self) -> str:
        with suppress(OSError, UnicodeDecodeError):
            return (self.path / "name.txt").read_text(encoding="utf-8").strip() or self.id
        return self.id

    @property
    def is_member(self) -> bool:
        """Whether a sweep made it."""
        with suppress(BadInput):
            return self.frozen().get("command", "").startswith("member of ")
        return False

    def rename(self, name: str) -> None:
        """Raises BadInput for a recorded run, and a name that is taken or is no single line of text."""
        name = name.strip()[:120]
        self.refuse_recorded("Those keep their name.")
        if not name.isprintable() or not name:
            raise BadInput(f"name: expected one line of text, found {name!r}. Give one.")
        if taken := [r.id for r in all_runs(self.path.parent) if name in (r.id, r.name) and r.path != self.path]:
            raise BadInput(f"name: expected one that no run has, found {name!r}, which is {taken[0]}. Take another.")
        files.write_aside(self.path / "name.txt", name)

    @property
    def note(self) -> str:
        """What a person wrote about the run; '' where nobody did."""
        with suppress(OSError, UnicodeDecodeError):
            return (self.path / "note.txt").read_text(encoding="utf-8").strip()
        return ""

    def write_note(self, text: str) -> None:
        """Raises BadInput for a recorded run."""
        self.refuse_recorded("It takes no note.")
        files.write_aside(self.path / "note.txt", text.strip()[:1000])

    def frozen(self) -> dict[str, Any]:
        """The whole config.json: kind, config, versions, created (seconds since 1970), command."""
        data = files.read_json(self.path / "config.json")
        if not is_frozen(data) or data["kind"] not in KINDS:
            found = "expected a run's config.json, found something else"
            raise BadInput(f"{self.id}: {found}. The folder is no run, or is damaged.")
        return data

    @property
    def kind(self) -> str:
        return str(self.frozen()["kind"])

    @property
    def fingerprint(self) -> Fingerprint:
        """What its numbers were made of; what config.json does not say, or not as a text, is unknown: all of it before
        the run has begun, and in older runs."""
        noted = self.frozen().get("fingerprint")
        known = noted if isinstance(noted, dict) else {}
        return Fingerprint(**{f.name: v for f in fields(Fingerprint) if isinstance(v := known.get(f.name), str)})

    def load_config(self) -> Any:
        """The config object that ran."""
        data = self.frozen()
        return from_json(KINDS[data["kind"]], data["config"])

    def status(self) -> Status:
        """The state now: a running process that is gone reads as killed, an unreadable file as failed."""
        try:
            status = self._noted()
        except (BadInput, ValueError):
            return Status(State.FAILED, message="status.json cannot be read; resume starts from the last checkpoint.")
        living = life(status.pid, status.pid_start) if status.state is State.RUNNING else Life.ALIVE
        if living is Life.ALIVE or held(self.path):
            return status
        if living is Life.DEAD:
            words = "The process ended without a word. Everything up to the last checkpoint is kept; resume goes on."
            return replace(status, state=State.KILLED, seconds_left=None, message=words)
        silent = abs(time.time() - status.updated)
        words = f"It runs on {host_of(status.pid_start)}, and was heard of {silent:.0f} s ago."
        return replace(status, state=State.UNHEARD if silent > HEARD else State.RUNNING, message=words)

    def _noted(self) -> Status:
        """What status.json says. Raises BadInput or ValueError where it cannot be read."""
        data = files.read_json(self.path / "status.json")
        if not is_status(data):
            raise BadInput("status.json: expected a run's status, found something else. Its state is not known.")
        return Status(State(data["state"]), **{k: v for k, v in data.items() if k in STATUS})

    def metrics(self, *kinds: str) -> list[dict[str, Any]]:
        """Rows of metrics.jsonl that still stand, of these kinds (all without): superseded ones are left out."""
        rows = still_standing(files.read_lines(self.path / "metrics.jsonl"))
        return [r for r in rows if "kind" in r and (not kinds or r["kind"] in kinds)]

    def parts(self) -> list[dict[str, Any]]:
        """The summaries of the rollout parts that still stand: step, role, part, rows, groups by kind."""
        parts = [p for p in files.read_lines(self.path / "rollouts" / "parts.jsonl") if "part" in p]
        return still_standing(parts, files.read_lines(self.path / "metrics.jsonl"))

    def rollouts(self, step: int | None = None, role: str | None = None) -> list[dict[str, Any]]:
        """Rollout rows of one step (all without), one role (both without)."""
        wanted = [p for p in self.parts() if p["part"] and step in (None, p["step"]) and role in (None, p["role"])]
        return [row for p in wanted for row in files.read_table(self.path / "rollouts" / p["part"])]

    @property
    def looks_file(self) -> Path:
        """In its folder; of a run that came with the project, beside your own runs."""
        return runs_root() / f"{self.id}.confirm.jsonl" if self.recorded else self.path / "confirm.jsonl"

    def looks(self) -> list[dict[str, Any]]:
        """The batches of fresh rollouts of a scan's cliffs, oldest first. Two processes that drew the same batch at once drew
        the same rollouts: they count once."""
        rows = [r for r in files.read_lines(self.looks_file) if r.get("kind") == "confirm"]
        return list({(r["problem_id"], r["step"]): r for r in reversed(rows)}.values())[::-1]

    def tables(self, name: str) -> dict[int, Path]:
        """step → closed table of that name, steps ascending."""
        found = sorted((self.path / "tables").glob(f"{name}-step-*.parquet"))
        return {int(number): f for f in found if (number := f.stem.removeprefix(f"{name}-step-")).isdecimal()}

    def table(self, name: str, step: int) -> list[dict[str, Any]]:
        path = self.tables(name).get(step)
        return files.read_table(path) if path else []

    def checkpoints(self) -> list[Path]:
        """Closed checkpoints, oldest first."""
        return sorted(f.parent for f in (self.path / "checkpoints").glob("step-*/state.json"))

    def members(self) -> list[dict[str, Any]]:
        """The members of a sweep so far: id (a folder beside this one), lambda, seed. Empty for any other run."""
        with suppress(BadInput):
            rows = files.read_json(self.path / "members.json")
            return [r for r in rows if is_member(r)] if isinstance(rows, list) else []
        return []

    def newest_checkpoint(self) -> tuple[int, Path | None, list[str]]:
        """(step, folder) of the newest whole checkpoint, (-1, None) without one; and what is wrong with newer ones."""
        damaged: list[str] = []
        for folder in reversed(self.checkpoints()):
            if not (fault := checkpoint_fault(folder)):
                return int(files.read_json(folder / "state.json")["step"]), folder, damaged
            damaged.append(fault)
        return -1, None, damaged

    def chunks(self) -> list[list[dict[str, Any]]]:
        """The problem rows of a scan or evaluation by chunk, as far as every chunk is whole on the disk."""
        if self.kind == "evaluate":
            return list(takewhile(bool, (self.table(CHUNK_TABLE, number) for number in count())))
        rows, parts = self.metrics("scan_group"), {p["step"]: p for p in self.parts()}
        found: list[list[dict[str, Any]]] = []
        while part := parts.get(len(found)):
            chunk = [r for r in rows if r["step"] == len(found)]
            broken = part["part"] and not files.readable_table(self.path / "rollouts" / part["part"])
            if broken or len(chunk) != sum(part["groups"].values()):
                break
            found.append(chunk)
        return found

    def best(self) -> int | None:
        """The step of the best checkpoint that is kept, by pass@1 on the half of the problems that chooses."""
        kept, chosen_on = {p.name for p in self.checkpoints()}, self.chosen_on()
        steps = [s for s in chosen_on if f"step-{s:06d}" in kept]
        return max(steps, key=lambda s: (chosen_on[s], -s), default=None)

    def chosen_on(self) -> dict[int, float]:
        """step → pass@1 on that half of the validation problems, of every evaluation after training began."""
        rows = [r for r in self.metrics("eval") if r["step"] > 0]
        return {r["step"]: r["chosen_on"] for r in rows if isinstance(r.get("chosen_on"), float)}

    def damage(self) -> list[str]:
        """One sentence for each part of the folder that cannot be read."""
        found = []
        for read in (self.load_config, self._noted):
            try:
                read()
            except (BadInput, ValueError) as e:
                found.append(str(e))
        for name in ("metrics.jsonl", "rollouts/parts.jsonl", "confirm.jsonl"):
            if broken := files.broken_lines(self.path / name):
                found.append(f"{name}: {broken} line{'s' * (broken > 1)} left out, which cannot be read.")
        log, book = self.path / "metrics.jsonl", self.path / "members.json"
        if not log.is_file() and (log.exists() or (self.status().done and not book.exists())):
            found.append("metrics.jsonl: expected the run's rows, found no such file. What was measured is lost.")
        if book.exists() and not (self.members() and len(self.members()) == len(files.read_json(book))):
            found.append("members.json: expected the members of a sweep, found something else; those are left out.")
        found += [fault for c in self.checkpoints() if (fault := checkpoint_fault(c))]
        parts = [self.path / "rollouts" / p["part"] for p in self.parts() if p["part"]]
        unread = [f for f in [*parts, *(self.path / "tables").glob("*.parquet")] if not files.readable_table(f)]
        words = "expected a whole Parquet file, found a damaged or missing one; it is left out."
        return found + [f"{f.parent.name}/{f.name}: {words}" for f in unread]


def all_runs(root: Path | None = None) -> list[Run]:
    """Every run folder, newest first, then those that come with the project."""
    return [*reversed(runs_in(root or runs_root())), *runs_in(ASSET_RUNS)]


def runs_in(root: Path) -> list[Run]:
    """By name; one pass over the folder, since every page asks for it."""
    with suppress(OSError), os.scandir(root) as entries:
        names = sorted(e.name for e in entries if not e.name.startswith("."))
        return [
            Run(root / n) for n in names if any(os.path.isfile(f"{root}/{n}/{f}.json") for f in ("config", "status"))
        ]
    return []


def find_run(name: str, root: Path | None = None) -> Run:
    """A run by id, by its given name, by the end of its id, by path, or the `latest` of yours (a sweep, no member).
    Raises BadInput that names what exists, or the ids of several that are meant."""
    if not name.strip():
        raise BadInput("run: expected the id, name or folder of a run, found an empty text. Is a variable unset?")
    if (Path(name) / "config.json").is_file():
        return Run(Path(name).resolve())
    runs = all_runs(root)
    several = [r for r in runs if name == "latest" and not r.recorded and not r.is_member][:1]
    for fits in (lambda r: r.id == name, lambda r: r.name == name, lambda r: r.id.endswith(name)):
        several = several or [r for r in runs if fits(r)]
    if len(several) == 1:
        return several[0]
    if several:
        ids = ", ".join(r.id for r in several[:5])
        raise BadInput(f"run: expected one run, found {len(several)} that {name!r} may mean. Take an id: {ids}.")
    here = f"Runs here: {', '.join(r.id for r in runs[:5]) or 'none yet'}; `python -m hdpo runs` lists all."
    raise BadInput(f"run: expected the id, name or folder of a run, found {name!r}. {here}")


def checkpoint_fault(folder: Path) -> str:
    """What is wrong with a checkpoint, in words; '' for a whole one."""
    try:
        state = files.read_json(folder / "state.json")
        int(state["step"])
        for name in state.get("files", ()):
            if not (folder / name).is_file():
                return f"{folder.name}: {name} is missing."
    except (BadInput, AttributeError, KeyError, TypeError, ValueError):
        return f"{folder.name}: state.json cannot be read."
    for file in folder.glob("*.safetensors"):
        try:
            with safe_open(file, "np"):
                pass
        except (OSError, SafetensorError):
            return f"{folder.name}: {file.name} is cut off or damaged."
    return ""


def request_stop(path: Path) -> None:
    """Ask the run's process to stop at its next step edge."""
    (path / "stop").touch()


def stop_requested(path: Path) -> bool:
    return (path / "stop").exists()


def still_standing(rows: Sequence[dict[str, Any]], log: Sequence[dict[str, Any]] = ()) -> list[dict[str, Any]]:
    """Drop what a later attempt supersedes: rows beyond the step from which that attempt went on, as the log says (the
    rows themselves where none is given), and what each attempt says again.

    >>> rows = [{"kind": "step", "step": s, "attempt": 1} for s in (1, 2, 3)]
    >>> rows += [{"kind": "resume", "step": 2, "attempt": 2}, {"kind": "step", "step": 3, "attempt": 2}]
    >>> [(r["step"], r["attempt"]) for r in still_standing(rows) if r["kind"] == "step"]
    [(1, 1), (2, 1), (3, 2)]
    """
    cuts = [(r["attempt"], r["step"]) for r in log or rows if r.get("kind") == "resume"]
    if not cuts:
        return list(rows)
    rows = [r for r in rows if not any(a > r["attempt"] and r["step"] > s for a, s in cuts)]
    first = {(r["kind"], r["step"]): r for r in reversed(rows) if r.get("kind") in ONCE}
    return [r for r in rows if first.get((r.get("kind"), r["step"]), r) is r]
