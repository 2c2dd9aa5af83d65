"""Damaged run folders and job tables. Whatever is in one of them: lists, `runs show`, the app's tables and the job table
never raise anything but a sentence, the damage is named, and the run beside it is read as before.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import random
import shutil
import sqlite3
import tempfile
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from hdpo.cli.main import main
from hdpo.errors import HdpoError
from hdpo.record import folder as folders
from hdpo.record.folder import Run, all_runs
from hdpo.work import jobs
from hdpo.work.execute import where_it_goes_on
from tests.fakes import fake_pair, fake_scan_run, fake_train_run
from workbench import launch
from workbench.data import catalog, exports

ODD: tuple[Any, ...] = (None, True, -1, 10**400, 1.5, "", "x", "../up", [], [1], {}, {"value": None}, [[[]]])
TEXTS = (
    "",
    "[",
    "{}",
    "[]",
    "null",
    "[" * 100_000,
    '{"kind": 3}\n',
    '{"step": 1, "attempt": 1, "kind": null}\n',
    "\x00\xff",
)


def one(dice: random.Random, place: Path) -> str:
    """One damaged folder beside whole ones. Raises AssertionError with whatever went wrong."""
    whole, root = whole_runs(), place / "runs"
    shutil.copytree(whole, root)
    victim = dice.choice(sorted(p for p in root.iterdir() if (p / "config.json").is_file()))
    done = [harm(dice, root, victim) for _ in range(dice.randint(1, 3))]
    with in_root(root):
        faults = look(whole, root, victim)
        told = bool(Run(victim).damage())
    assert not faults, f"{'; '.join(done)}: {'; '.join(dict.fromkeys(faults))}"
    return (
        "read, and called damaged" if told else "read as if whole: what was changed has a meaning, or is the job table"
    )


@cache
def whole_runs() -> Path:
    """A pair, a scan, a training, a heavy job and a question; made once, and removed with the process."""
    from streamlit.logger import set_log_level

    set_log_level("ERROR")
    logging.getLogger("streamlit").setLevel(logging.ERROR)
    _kept.append(tempfile.TemporaryDirectory(prefix="hdpo-fuzz-"))
    whole = Path(_kept[0].name)
    folders.ASSET_RUNS = whole / "none"  # no recorded runs beside them
    os.environ["HDPO_NO_WORKERS"] = "1"
    fake_pair(whole), fake_scan_run(whole), fake_train_run(whole)
    with in_root(whole):
        jobs.submit("heavy", {"run": all_runs()[0].id, "resume": False})
        jobs.emit(jobs.submit("interactive", {"request": "info"}), {"event": "phase", "text": "x"})
    return whole


_kept: list[tempfile.TemporaryDirectory[str]] = []


# --- damage -----------------------------------------------------------------------------------------------------------


def harm(dice: random.Random, root: Path, victim: Path) -> str:
    """One change to a file of the run, or to the job table; what was done."""
    if dice.random() < 0.15:
        return harm_table(dice, root / "jobs.sqlite")
    files = sorted(p for p in victim.rglob("*") if p.is_file())
    if not files:
        return "nothing left"
    file = (
        dice.choice([f for f in files if f.suffix in (".json", ".jsonl")] or files)
        if dice.random() < 0.7
        else dice.choice(files)
    )
    way: Callable[[random.Random, Path], None] = dice.choice(
        (cut, flip, remove, to_folder, replace, odd_value, odd_value, odd_value, append)
    )
    way(dice, file)
    return f"{way.__name__} {file.relative_to(root)}"


def cut(dice: random.Random, file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: dice.randint(0, len(data))])


def flip(dice: random.Random, file: Path) -> None:
    data = bytearray(file.read_bytes())
    for _ in range(min(len(data), 5)):
        data[dice.randrange(len(data))] = dice.randrange(256)
    file.write_bytes(data)


def remove(dice: random.Random, file: Path) -> None:
    file.unlink()


def to_folder(dice: random.Random, file: Path) -> None:
    file.unlink()
    file.mkdir()


def replace(dice: random.Random, file: Path) -> None:
    file.write_text(dice.choice(TEXTS), encoding="utf-8")


def append(dice: random.Random, file: Path) -> None:
    with file.open("a", encoding="utf-8") as f:
        f.write(dice.choice(TEXTS) + "\n")


def odd_value(dice: random.Random, file: Path) -> None:
    """Somewhere in the JSON, a value of another type, or no such entry."""
    try:
        lines = (
            [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
            if file.suffix == ".jsonl"
            else [json.loads(file.read_text(encoding="utf-8"))]
        )
    except (ValueError, RecursionError):
        return
    if not lines:
        return
    place: Any = lines
    key: Any = dice.randrange(len(lines))
    while isinstance(place[key], dict | list) and place[key] and dice.random() < 0.7:
        place = place[key]
        key = dice.choice(list(place)) if isinstance(place, dict) else dice.randrange(len(place))
    if dice.random() < 0.2 and isinstance(place, dict):
        del place[key]
    else:
        place[key] = dice.choice(ODD)
    file.write_text(
        "\n".join(json.dumps(line) for line in lines) + ("\n" if file.suffix == ".jsonl" else ""), encoding="utf-8"
    )


def harm_table(dice: random.Random, file: Path) -> str:
    if dice.random() < 0.4:
        cut(dice, file) if dice.random() < 0.5 else flip(dice, file)
        return "bytes of jobs.sqlite"
    column = dice.choice(("payload", "state", "pid", "pid_start", "owner", "owner_start", "created", "memory_bytes"))
    value = dice.choice(("", "x", "[]", "{}", '{"run": 5}', "running", -1, 2**62, 1.5))
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(file)) as db, db:
        db.execute(f"UPDATE jobs SET {column}=?", (value,))
    return f"{column} = {value!r} in jobs.sqlite"


# --- looking ----------------------------------------------------------------------------------------------------------


def look(whole: Path, root: Path, victim: Path) -> list[str]:
    """What raised, and what of the other runs is not as it was."""
    faults: list[str] = []

    def fine(what: Callable[[], Any], sentence: bool = False) -> Any:
        try:
            return what()
        except HdpoError as e:
            if not sentence or not str(e).strip():
                faults.append(f"{what.__name__}: {e}")
        except Exception as e:
            faults.append(f"{where(e)}: {type(e).__name__}: {str(e)[:200]}")
        return None

    harmed = Run(victim)
    listed = [r.id for r in fine(all_runs) or []]
    names = {p.name for p in root.iterdir() if (p / "config.json").is_file() or (p / "status.json").is_file()}
    if names - set(listed):
        faults.append(f"all_runs: {names - set(listed)} left out")
    for method in ("status", "metrics", "parts", "rollouts", "checkpoints", "members", "newest_checkpoint", "damage"):
        fine(getattr(harmed, method))
    fine(lambda: harmed.name)
    for method in ("frozen", "load_config", "chunks"):
        fine(getattr(harmed, method), sentence=True)
    fine(lambda: where_it_goes_on(victim))
    frame = fine(catalog.runs_frame)
    if frame is not None:
        fine(lambda: exports.listing(frame))
    for table in (
        catalog.steps_frame,
        catalog.evals_frame,
        catalog.slices_frame,
        catalog.probe_frame,
        catalog.scan_frame,
        catalog.rollout_steps,
    ):
        fine(lambda table=table: table(harmed))
    for step in (0, 2):
        fine(
            lambda step=step: (
                catalog.step_rollouts(harmed, step),
                catalog.gap_frame(harmed, step),
                catalog.eval_counts(harmed, step),
            )
        )
    for command in (
        ["runs"],
        ["runs", "--json"],
        ["runs", "show", victim.name],
        ["runs", "show", victim.name, "--json"],
        ["runs", "export", victim.name],
    ):
        said, error = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(error):
            fine(lambda command=command: main(command))
        if (
            command[:2] == ["runs", "--json"]
            and frame is not None
            and victim.name not in said.getvalue()
            and victim.name in names
        ):
            faults.append("runs --json: the damaged run is not listed")
    for question in (
        jobs.pending_heavy,
        jobs.running_heavy,
        jobs.recover,
        lambda: jobs.jobs("interactive"),
        lambda: jobs.claim("heavy"),
        lambda: jobs.live_workers("trainer"),
        lambda: jobs.check_resumable(harmed),
        jobs.prune,
        launch.running_run,
    ):
        fine(question, sentence=True)
    for other in sorted(p for p in root.iterdir() if (p / "config.json").is_file() and p != victim):
        before = Run(whole / other.name)
        if (
            fine(Run(other).metrics) != before.metrics()
            or Run(other).damage()
            or Run(other).load_config() != before.load_config()
        ):
            faults.append(f"{other.name}: not read as before")
    return faults


def where(e: Exception) -> str:
    last = traceback.extract_tb(e.__traceback__)[-1]
    return f"{Path(last.filename).name}:{last.lineno}"


@contextlib.contextmanager
def in_root(root: Path):  # type: ignore[no-untyped-def]
    before = os.environ.get("HDPO_RUNS")
    os.environ["HDPO_RUNS"] = str(root)
    try:
        yield
    finally:
        os.environ.pop("HDPO_RUNS") if before is None else os.environ.update(HDPO_RUNS=before)
