"""One attempt at a run folder, whoever asked for it: a trainer process or a terminal.

Reads the frozen config, calls the engine's function for its kind, and leaves the status at done, stopped or failed,
with a sentence. Members of a sweep are run folders of their own; those of one seed advance together, a step of each at
a time, so that what sets them apart is seen from the first one on. A run whose config asks for several processes is
handed to `accelerate launch`, which starts this module once for each: `python -m hdpo.work.execute RUN`.

This file is long: an attempt, a sweep of attempts and their launch end in one place, with one sentence each.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

from hdpo.arms import PLAIN, name_of
from hdpo.config import CENSUS, SweepConfig, TrainConfig, knobs, model_of, replace_knobs, to_json
from hdpo.errors import BAD_INPUT, BUSY, FAILED, OK, STOPPED, BadInput, Busy, HdpoError, Stopped
from hdpo.hub import is_hub_id
from hdpo.model.find import find
from hdpo.processes import end_group, held, holding, when_parent_ends
from hdpo.record.files import write_aside
from hdpo.record.folder import Run, RunWriter, SilentWriter, State, stop_requested
from hdpo.record.progress import Also, Progress, Report
from hdpo.record.ranks import ALONE, Ranks, join, launched
from hdpo.work import prepare_libraries
from hdpo.work.track import tracked

POLL = 0.2  # seconds between looks at processes that were launched
ORPHANS = 5.0  # seconds that ranks have to end once nobody is there any more who launched them


@dataclass(frozen=True)
class Ending:
    """How an attempt ended. bad_input: the failure is one that a person can mend in the settings. busy: another process
    is at work in the folder, which was left as it is."""

    state: State
    message: str = ""
    bad_input: bool = False
    busy: bool = False

    @property
    def code(self) -> int:
        """The exit code of a command that ended so."""
        if self.state is State.FAILED:
            return BUSY if self.busy else BAD_INPUT if self.bad_input else FAILED
        return OK if self.state is State.DONE else STOPPED


def execute(run_path: Path, resume: bool, also: Also | None = None, ranks: Ranks = ALONE) -> Ending:
    """Run one folder to its end, or to a stop. Raises nothing but KeyboardInterrupt and SystemExit (status: stopped).

    Under a launcher every rank comes here; which folder, rank 0 says.
    """
    run_path, resume = ranks.agree((run_path, resume))
    count = 1
    if not launched():
        with suppress(HdpoError):  # where the config cannot be read the attempt says so
            count = model_of(Run(run_path).load_config()).processes
    if count > 1:
        return _launch(run_path, resume, also, count)
    return in_turn([_attempt(run_path, resume, also, (), ranks)])[0]


Attempt = Generator[int, None, Ending]  # it rests after each of its training steps


def in_turn(attempts: Sequence[Attempt]) -> list[Ending]:
    """All of them to their ends, a step of each at a time. An interrupt ends them all."""
    endings: dict[Attempt, Ending] = {}
    with ExitStack() as all_closed:
        for attempt in attempts:
            all_closed.enter_context(closing(attempt))
        while left := [a for a in attempts if a not in endings]:
            for attempt in left:
                try:
                    next(attempt)
                except StopIteration as e:
                    endings[attempt] = e.value
    return [endings[a] for a in attempts]


def _launch(path: Path, resume: bool, also: Also | None, count: int) -> Ending:
    """Start the ranks in a process group of their own, show what rank 0 reports, and return when all have ended."""
    how = f"--multi_gpu --num_processes {count} --num_machines 1 --main_process_port 0 --mixed_precision no --dynamo_backend no"
    command = [sys.executable, "-m", "accelerate.commands.launch", *how.split(), "-m", "hdpo.work.execute", str(path)]
    command += ["--with-parent", *["--resume"] * resume]
    env = {**os.environ, "ACCELERATE_LOG_LEVEL": "error"}
    unit = "steps" if Run(path).kind in ("train", "sweep") else "problems"
    ends, alive = os.pipe()  # a lifeline of their own: a rank whose launcher was killed belongs to no group any more
    with (path / "log.txt").open("ab") as log:
        group = subprocess.Popen(command, stdin=ends, stdout=log, stderr=log, env=env, start_new_session=True)
    os.close(ends)
    ending, begun = None, False
    try:
        while group.poll() is None:
            time.sleep(POLL)
            now = Run(path).status()
            begun |= now.state is State.RUNNING
            if also is not None and now.state is State.RUNNING:
                also(Progress(now.phase, now.done, now.total, unit, now.seconds_left))
        ending = Ending(State.FAILED, _unexpected(path, None, count))
    finally:
        end_group(group)
        os.close(alive)
        until = time.monotonic() + ORPHANS
        while (busy := held(path)) and time.monotonic() < until:
            time.sleep(POLL)
        left = Run(path).status().state
        resumed = begun and left is State.QUEUED  # by somebody who was quicker: the next attempt's to tell
        if not busy and not resumed and (left is State.KILLED or not left.ended):
            _settle(path, ending, None)
    end = Run(path).status()
    if not end.state.ended:  # the ranks found it so, and left it as it was
        words = "another process is at work in it. Wait for it, or stop it."
        return Ending(State.FAILED, f"{path.name}: {words}", busy=True)
    return Ending(end.state, end.message, end.bad_input)


def _attempt(path: Path, resume: bool, also: Also | None, watch: tuple[Path, ...], ranks: Ranks) -> Attempt:
    """As the folder's only writer."""
    report: Report | None = None
    ending = None
    with ExitStack() as alone:
        try:
            if ranks.first:
                alone.enter_context(holding(path))
        except Busy as e:
            return Ending(State.FAILED, str(e), busy=True)
        try:
            writer, checkpoint, passed_over = _open(path, resume, ranks)
            report = Report(writer, also, watch, ranks)
            writer.status(State.RUNNING, phase="starting")
            if ranks.first:
                _pin_model(writer)
            ranks.agree(None)  # the others read the config after it was pinned
            with tracked(writer) if ranks.first else nullcontext():
                yield from _dispatch(writer, report, checkpoint)
            ending = Ending(State.DONE, passed_over)
            if also is not None:
                also(Progress("done", report.last.total, report.last.total, report.last.unit, 0.0))
        except Stopped as e:
            ending = Ending(State.STOPPED, f"{e} {where_it_goes_on(path)}")
        except HdpoError as e:
            ending = Ending(State.FAILED, str(e), isinstance(e, BadInput))
        except Exception as e:
            with suppress(OSError), (path / "log.txt").open("a", encoding="utf-8") as log:
                log.write(traceback.format_exc())
            ending = Ending(State.FAILED, _unexpected(path, e, ranks.count))
        finally:
            if ranks.first:
                _settle(path, ending, report)
        return ending


def _pin_model(writer: RunWriter) -> None:
    """Fetch a hub model and note its commit, so that the run says what it ran on and a resumed one takes the same."""
    config = Run(writer.path).load_config()
    model = model_of(config)
    if is_hub_id(model.model):
        writer.status(State.RUNNING, phase=f"fetching {model.model}")
        commit = find(model.model, model.revision).commit
        if commit != model.revision:
            writer.pin(config=to_json(replace_knobs(config, {"revision": commit})))


def _settle(path: Path, ending: Ending | None, report: Report | None) -> None:
    """The last status; ending: None for a second Ctrl-C. Where even that cannot be written, the dead process will read
    as killed."""
    ending = ending or Ending(State.STOPPED, f"Ended at once. {where_it_goes_on(path)}")
    last = report.last if report else Progress("", 0, 0)
    facts = {"phase": last.phase, "done": last.total if ending.state is State.DONE else last.done, "total": last.total}
    try:
        RunWriter(path, 0).status(ending.state, **facts, message=ending.message, bad_input=ending.bad_input)
    except HdpoError as e:
        print(f"{ending.message}\n{e}", file=sys.stderr)


def _unexpected(path: Path, e: Exception | None, count: int) -> str:
    """e: what ended one of `count` processes; None where only that is known."""
    found = f"Expected the run to go on, found {type(e).__name__}: {e}."
    if e is None or (count > 1 and re.search("gloo|NCCL|Connection", str(e))):
        found = f"Expected {count} processes to go on together, found that one of them ended."
    elif isinstance(e, MemoryError) or re.search("out of memory|can't allocate memory", str(e), re.I):
        way_out = "Lower micro-batch-tokens, prompts-per-step or rollouts, then resume."
        return f"The machine's memory was not enough ({type(e).__name__}). {way_out}"
    return f"{found} log.txt holds the details. {where_it_goes_on(path)}"


def where_it_goes_on(path: Path) -> str:
    """What resume finds in this folder, and the command."""
    run, where = Run(path), "starts from the beginning"
    try:
        kind, config = run.kind, run.load_config()
    except BadInput as e:
        return str(e)
    if kind == "sweep":
        members = [path.parent / m["id"] for m in run.members()]
        left = {i: Run(p).newest_checkpoint()[0] for i, p in enumerate(members, 1) if not _is_done(p)}
        if members and (len(left) < len(members) or max(left.values()) >= 0):
            after = [f"{i} after step {step}" if step >= 0 else f"{i}" for i, step in left.items()]
            where = f"goes on with member {', '.join(after) or len(members) + 1} of {len(config.members())}"
    elif kind == "import":
        where = "goes on where it ended"
    elif kind in ("scan", "evaluate") and (done := sum(map(len, run.chunks()))):
        where = f"goes on after the {done} problems that are done"
    elif (step := run.newest_checkpoint()[0]) >= 0:
        where = f"goes on after step {step}"
    return f"Resume {where}: python -m hdpo {kind} --resume {run.id}"


def _is_done(path: Path) -> bool:
    return Run(path).status().state is State.DONE


def _open(path: Path, resume: bool, ranks: Ranks) -> tuple[RunWriter, Path | None, str]:
    """The writer (rank 0's writes, the others' is silent), where to go on, the same on every rank, and a sentence about
    newer checkpoints that are damaged."""
    if not ranks.first:
        attempt, checkpoint = ranks.agree((0, None))
        return SilentWriter(path, attempt), checkpoint, ""
    run = Run(path)
    step, checkpoint, damaged = run.newest_checkpoint()
    if run.kind in CENSUS:
        step = len(run.chunks()) - 1
    if checkpoint is not None and not resume:
        words = f"expected a new run, found one with a checkpoint at step {step}"
        raise BadInput(f"{path.name}: {words}. Resume it, or start another.")
    # Without a checkpoint the attempt starts over, and step -1 supersedes all that an earlier one wrote.
    writer = RunWriter.resume(path, step, damaged)
    ranks.agree((writer.attempt, checkpoint))
    went_on = f"It went on after step {step}." if checkpoint else "It started over."
    return writer, checkpoint, " ".join([*damaged, went_on]) if damaged else ""


def _dispatch(writer: RunWriter, report: Report, checkpoint: Path | None) -> Generator[int]:
    """The engine is imported here, so that a queue and its command line stay without torch."""
    run = Run(writer.path)
    config = run.load_config()
    if run.kind == "sweep":
        total = len(config.members()) * config.train.step.steps
        failed = (_sweep_by_ray if config.ray else _sweep)(writer, config, report, total)
        report("finished", total, total)
        if failed:
            words = f"{len(failed)} of {len(config.members())} members did not finish. {' '.join(failed)}"
            raise HdpoError(f"{words} Resume tries them again.")
    elif run.kind == "import":
        from hdpo.work.imports import import_rollouts

        import_rollouts(writer, config, report)
    elif run.kind == "train":
        from hdpo.method.run import train

        yield from train(writer, config, report, checkpoint)
    else:
        from hdpo.method import evaluate

        (evaluate.scan if run.kind == "scan" else evaluate.evaluate)(writer, config, report)


def _sweep(writer: RunWriter, config: SweepConfig, report: Report, total: int) -> list[str]:
    """Seed by seed, its members in turn: a finished one is skipped, a begun one resumed. Returns a sentence for each that
    failed."""
    from hdpo.model.fit import arms_at_once

    failed: list[str] = []
    told: dict[Path, Progress] = {}
    for arms in config.turns(arms_at_once(config)):
        begun = {}
        for member in arms:
            path, done = report.ranks.agree(_member(writer, member) if report.ranks.first else (writer.path, False))
            told[path] = Progress("done" if done else "starting", done * member.step.steps, member.step.steps)
            if not done:
                begun[path] = member
        report("starting", sum(p.done for p in told.values()), total)
        also = {p: partial(_tell_as_sweep, report, told, total, p, m) for p, m in begun.items()}
        endings = in_turn([_attempt(p, True, also[p], (writer.path,), report.ranks) for p in begun])
        if report.ranks.agree(stop_requested(writer.path)):
            raise Stopped("Stopped on request.")
        for (path, member), ending in zip(begun.items(), endings, strict=True):
            if ending.state is not State.DONE:
                failed.append(f"{path.name} ({title(member)}): {ending.message}")
                if report.ranks.count > 1:
                    raise HdpoError(failed[-1])  # the other ranks may stand elsewhere
    return failed


def _sweep_by_ray(writer: RunWriter, config: SweepConfig, report: Report, total: int) -> list[str]:
    """The members side by side, those that are done left out. Returns a sentence for each that did not finish."""
    from hdpo.work.ray_sweep import run_members

    if report.ranks.count > 1:
        words = "expected one process that hands out the members, found several"
        raise BadInput(f"ray: {words}. Start the sweep without a launcher.")
    members = {m: _member(writer, m) for m in config.members()}
    run_members(dict(members.values()), config, lambda words, done: report(words, done, total))
    ends = [(path, m, Run(path).status()) for m, (path, _) in members.items()]
    return [f"{p.name} ({title(m)}): {s.message or s.state.value}" for p, m, s in ends if s.state is not State.DONE]


def _tell_as_sweep(
    report: Report, told: dict[Path, Progress], total: int, path: Path, member: TrainConfig, p: Progress
) -> None:
    """One member's progress as the sweep's, counted in steps of all members: its time left is that of the members that
    know theirs, and for each of the others what those take in the mean. told: the newest word of each begun or done."""
    same, told[path] = path in told and told[path].done == p.done, p
    if same:  # within a step: what all took is what it was
        report.meanwhile(f"{title(member)}: {p.phase}", report.last.done)
        return
    took = {m: sum(row["seconds"] for row in Run(m).metrics("step", "eval")) for m in told}  # over all attempts
    known = [took[m] + (q.seconds_left or 0.0) for m, q in told.items() if q.done and took[m]]
    others = total // member.step.steps - len(known)
    left = sum(known) + others * mean(known) - sum(took.values()) if known else None
    report.tell(Progress(f"{title(member)}: {p.phase}", sum(q.done for q in told.values()), total, "steps", left))


def title(member: TrainConfig) -> str:
    """
    >>> title(TrainConfig()), title(replace_knobs(TrainConfig(), {"teacher": "frozen", "seed": 2}))
    ('λ = 0.3, seed 0', 'frozen, λ = 0.3, seed 2')
    """
    return ", ".join(f"λ = {v:g}" if k == "lambda" else v if k == "arm" else f"{k} {v}" for k, v in key(member).items())


def key(member: TrainConfig) -> dict[str, Any]:
    """What tells a sweep's members apart: their arm where λ does not tell it, λ and seed."""
    name = name_of({k.name: k.default for k in knobs(member)})
    arm = {} if name in PLAIN else {"arm": name}
    return {**arm, "lambda": member.objective.lambda_, "seed": member.seed}


def settings(member: TrainConfig) -> tuple[Any, ...]:
    """What a sweep's members differ in."""
    return member.seed, member.objective, member.step.rollouts


def _member(writer: RunWriter, member: TrainConfig) -> tuple[Path, bool]:
    """The member's run folder, made where there is none yet, and entered in members.json first come first; and
    whether it is done. Where it is not, a stop of an earlier attempt is forgotten."""
    book, known = writer.path / "members.json", Run(writer.path).members()
    for entry in known:
        path = writer.path.parent / entry["id"]
        if (path / "config.json").exists() and settings(Run(path).load_config()) == settings(member):
            if not (done := _is_done(path)):
                (path / "stop").unlink(missing_ok=True)
            return path, done
    command = f"member of {writer.path.name}"
    made = RunWriter.create("train", member, writer.path.parent, f"{Run(writer.path).name}: {title(member)}", command)
    write_aside(book, json.dumps([*known, {"id": made.path.name, **key(member)}], indent=1))
    return made.path, False


def main(arguments: list[str] | None = None) -> int:
    """One rank of a launched run: 0 done or stopped, 1 failed, 2 bad input."""
    parser = argparse.ArgumentParser(prog="python -m hdpo.work.execute", description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--with-parent", action="store_true", help="end at once when the other end of stdin is gone")
    given = parser.parse_args(arguments)
    if given.with_parent:
        when_parent_ends(lambda: os._exit(FAILED))
    prepare_libraries()
    ranks = join(model_of(Run(given.run).load_config()).device)
    ending = execute(given.run, given.resume, ranks=ranks)
    return OK if ending.state is State.STOPPED else ending.code  # a stop is no failure of the launcher's


if __name__ == "__main__":
    sys.exit(main())
