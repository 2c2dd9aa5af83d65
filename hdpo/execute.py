"""One attempt at a run folder, whoever asked for it: a trainer process or a terminal.

Reads the frozen config, calls the engine's function for its kind, and leaves the status at done, stopped or failed,
with a sentence. A sweep is run member by member; members are run folders of their own.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hdpo.config import SweepConfig, TrainConfig
from hdpo.errors import BadInput, HdpoError, Stopped
from hdpo.files import read_json, write_aside
from hdpo.progress import Also, Progress, Report
from hdpo.runs import Run, RunWriter, State, stop_requested


@dataclass(frozen=True)
class Ending:
    """How an attempt ended. bad_input: the failure is one that a person can mend in the settings."""

    state: State
    message: str = ""
    bad_input: bool = False


def execute(run_path: Path, resume: bool, also: Also | None = None) -> Ending:
    """Run one folder to its end, or to a stop. Raises nothing but KeyboardInterrupt and SystemExit (status: stopped)."""
    return _attempt(run_path, resume, also, ())


def _attempt(path: Path, resume: bool, also: Also | None, watch: tuple[Path, ...]) -> Ending:
    report: Report | None = None
    ending = Ending(State.STOPPED, "Ended at once; resume goes on from the last checkpoint.")
    try:
        writer, checkpoint, step = _open(path, resume)
        report = Report(writer, also, watch, max(step, 0))
        writer.status(State.RUNNING, phase="starting")
        _dispatch(writer, report, checkpoint)
        ending = Ending(State.DONE)
        if also is not None:
            also(Progress("done", report.last.total, report.last.total, report.last.unit, 0.0))
    except Stopped as e:
        ending = Ending(State.STOPPED, f"{e} {_where_it_goes_on(path)}")
    except HdpoError as e:
        ending = Ending(State.FAILED, str(e), isinstance(e, BadInput))
    except Exception as e:
        _log(path, traceback.format_exc())
        ending = Ending(State.FAILED, _unexpected(e))
    finally:
        _settle(path, ending, report)
    return ending


def _settle(path: Path, ending: Ending, report: Report | None) -> None:
    """The last status. Where even that cannot be written, the dead process will read as killed."""
    last = report.last if report else Progress("", 0, 0)
    done = last.total if ending.state is State.DONE else last.done
    try:
        RunWriter(path, 0).status(ending.state, phase=last.phase, done=done, total=last.total, message=ending.message)
    except HdpoError as e:
        print(f"{ending.message}\n{e}", file=sys.stderr)


def _log(path: Path, text: str) -> None:
    with suppress(OSError), (path / "log.txt").open("a", encoding="utf-8") as log:  # the status says it in one sentence
        log.write(text)


def _unexpected(e: Exception) -> str:
    if isinstance(e, MemoryError) or "out of memory" in str(e).lower() or "can't allocate memory" in str(e).lower():
        return f"The machine's memory was not enough ({type(e).__name__}). Lower micro-batch-tokens, prompts-per-step or rollouts, then resume."  # fmt: skip
    return f"Expected the run to go on, found {type(e).__name__}: {e}. log.txt holds the details; resume goes on from the last checkpoint."  # fmt: skip


def _where_it_goes_on(path: Path) -> str:
    step = newest_checkpoint(path)[0]
    return f"Resume goes on after step {step}." if step >= 0 else "Resume starts from the beginning."


def newest_checkpoint(path: Path) -> tuple[int, Path | None]:
    """(step, folder) of the newest checkpoint whose state can be read; (-1, None) without one."""
    for folder in reversed(Run(path).checkpoints()):
        try:
            return int(read_json(folder / "state.json")["step"]), folder
        except (BadInput, KeyError, TypeError, ValueError):
            continue
    return -1, None


def _open(path: Path, resume: bool) -> tuple[RunWriter, Path | None, int]:
    step, checkpoint = newest_checkpoint(path)
    if checkpoint is not None and not resume:
        raise BadInput(f"{path.name}: expected a new run, found one with a checkpoint at step {step}. Resume it, or start another.")  # fmt: skip
    # Without a checkpoint the attempt starts over, and step -1 supersedes all that an earlier one wrote.
    return RunWriter.resume(path, step), checkpoint, step


def _dispatch(writer: RunWriter, report: Report, checkpoint: Path | None) -> None:
    """The engine is imported here, so that a queue and its command line stay without torch."""
    run = Run(writer.path)
    config = run.load_config()
    if run.kind == "sweep":
        _sweep(writer, config, report)
    elif run.kind == "train":
        from hdpo.loop import train

        train(writer, config, report, checkpoint)
    else:
        from hdpo import evaluate

        stage: Callable[..., None] = evaluate.scan if run.kind == "scan" else evaluate.evaluate
        stage(writer, config, report)


def _sweep(writer: RunWriter, config: SweepConfig, report: Report) -> None:
    """Member by member: a finished one is skipped, a begun one resumed. Raises HdpoError that names those that failed."""
    members, failed = config.members(), []
    for number, member in enumerate(members):
        path = _member(writer, member)
        if Run(path).status().state is State.DONE:
            continue
        report(f"{_title(member)}: starting", number, len(members), "members")
        (path / "stop").unlink(missing_ok=True)
        ending = _attempt(path, True, _told_as_sweep(report, member, number, len(members)), (writer.path,))
        if stop_requested(writer.path):
            raise Stopped(f"Stopped on request at member {number + 1} of {len(members)}.")
        if ending.state is not State.DONE:
            failed.append(f"{path.name} ({_title(member)}): {ending.message}")
    report("finished", len(members), len(members), "members")
    if failed:
        raise HdpoError(f"{len(failed)} of {len(members)} members did not finish. {' '.join(failed)} Resume tries them again.")  # fmt: skip


def _told_as_sweep(report: Report, member: TrainConfig, number: int, total: int) -> Also:
    """One member's progress as the sweep's: its time left, and as long again for each member to come."""
    begun, left = time.monotonic(), None

    def tell(p: Progress) -> None:
        nonlocal left
        if p.unit == "steps" and p.seconds_left is not None:
            whole = time.monotonic() - begun + p.seconds_left
            left = p.seconds_left + (total - number - 1) * whole
        words = f"{_title(member)}: {p.phase}, {p.done} of {p.total} {p.unit}"
        report.tell(Progress(words, number, total, "members", left))

    return tell


def _title(member: TrainConfig) -> str:
    return f"λ = {member.objective.lambda_:g}, seed {member.seed}"


def _member(writer: RunWriter, member: TrainConfig) -> Path:
    """The member's run folder, made where there is none yet, and entered in members.json first come first."""
    book = writer.path / "members.json"
    known: list[dict[str, Any]] = read_json(book) if book.exists() else []
    key = {"lambda": member.objective.lambda_, "seed": member.seed}
    for entry in known:
        path = writer.path.parent / entry["id"]
        if key.items() <= entry.items() and (path / "config.json").exists():
            return path
    command = f"member of {writer.path.name}"
    made = RunWriter.create("train", member, writer.path.parent, f"{Run(writer.path).name}: {_title(member)}", command)
    write_aside(book, json.dumps([*known, {"id": made.path.name, **key}], indent=1))
    return made.path
