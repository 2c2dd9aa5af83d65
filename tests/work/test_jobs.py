"""The job table: one claimer a job, one heavy job at a time, and nothing that stays running when its process is gone."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hdpo.config import TrainConfig
from hdpo.errors import BadInput, Busy, HdpoError, Stopped
from hdpo.record.folder import Run, RunWriter, State, request_stop, stop_requested
from hdpo.record.progress import Progress, Report
from hdpo.work import jobs

HOME = Path(__file__).resolve().parents[2]


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("HDPO_RUNS", str(tmp_path))
    return tmp_path


def python(code: str) -> subprocess.Popen[str]:
    """Another process at the same job table; prints what it has to say on stdout."""
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=HOME, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def said(process: subprocess.Popen[str]) -> str:
    return process.stdout.readline().strip()


def a_run() -> str:
    return RunWriter.create("train", TrainConfig()).path.name


CLAIM_AND_WAIT = """
from hdpo.work import jobs
job = jobs.claim({lane!r})
print(job.id if job else "none", flush=True)
input()
"""


def test_of_processes_racing_for_jobs_each_job_has_one(root):
    ids = [jobs.submit("interactive", {"request": "info"}) for _ in range(30)]
    code = """
from hdpo.work import jobs
print("ready", flush=True); input()
while job := jobs.claim("interactive"): print(job.id, flush=True)
"""
    racers = [python(code) for _ in range(4)]
    assert [said(r) for r in racers] == ["ready"] * 4
    for r in racers:
        r.stdin.write("\n")
        r.stdin.flush()
    taken = [int(word) for r in racers for word in r.communicate(timeout=30)[0].split()]
    assert sorted(taken) == ids


def test_two_processes_racing_for_one_heavy_job_and_only_one_gets_it(root):
    job = jobs.submit("heavy", {"run": a_run(), "resume": False})
    racers = [python(CLAIM_AND_WAIT.format(lane="heavy")) for _ in range(2)]
    assert sorted(said(r) for r in racers) == sorted([str(job), "none"])
    for r in racers:
        r.communicate("\n", timeout=30)


def test_one_heavy_job_at_a_time_in_the_order_of_submission(root):
    first, second = (jobs.submit("heavy", {"run": a_run(), "resume": False}) for _ in range(2))
    assert jobs.claim("heavy").id == first
    assert jobs.claim("heavy") is None
    assert jobs.running_heavy().id == first
    jobs.finish(first, State.DONE)
    assert jobs.claim("heavy").id == second


def test_a_killed_claimer_frees_the_machine_and_its_run_reads_killed(root):
    run = a_run()
    job = jobs.submit("heavy", {"run": run, "resume": False})
    claimer = python(CLAIM_AND_WAIT.format(lane="heavy"))
    assert said(claimer) == str(job)
    after = jobs.submit("heavy", {"run": a_run(), "resume": False})
    assert jobs.claim("heavy") is None
    claimer.kill()
    claimer.wait()
    assert jobs.claim("heavy").id == after
    assert jobs.job(job).state is State.KILLED
    assert Run(root / run).status().state is State.KILLED
    assert "resume" in Run(root / run).status().message


def test_a_killed_run_goes_on_at_once_and_one_at_work_does_not(root):
    run = Run(root / a_run())
    job = jobs.submit("heavy", {"run": run.id, "resume": False})
    code = f"""
from pathlib import Path
from hdpo.processes import holding
from hdpo.record.folder import *
from hdpo.work import jobs
jobs.claim("heavy")
with holding(Path({str(run.path)!r})):
    RunWriter(Path({str(run.path)!r}), 1).status(State.RUNNING)
    print("at work", flush=True); input()
"""
    at_work = python(code)
    assert said(at_work) == "at work"
    with pytest.raises(Busy, match="running already"):
        jobs.check_resumable(run)
    shifted = json.loads((run.path / "status.json").read_text()) | {"pid_start": 12.5}  # as the clock might say
    (run.path / "status.json").write_text(json.dumps(shifted))
    with sqlite3.connect(root / "jobs.sqlite") as db:
        db.execute("UPDATE jobs SET pid_start=12.5")
    with pytest.raises(Busy, match="running already"):
        jobs.check_resumable(run)
    jobs.submit("heavy", {"run": a_run(), "resume": False})
    assert jobs.claim("heavy") is None, "the machine is not free"
    at_work.kill()
    at_work.wait()
    jobs.check_resumable(run)
    assert jobs.job(job).state is State.KILLED and run.status().state is State.KILLED


def test_a_run_of_another_machine_is_left_alone_until_it_is_not_heard_of_and_a_person_takes_it_over(root):
    run = Run(root / a_run())
    job = jobs.submit("heavy", {"run": run.id, "resume": False})
    jobs.claim("heavy")
    there = "cluster-7 another-boot 12345"
    with sqlite3.connect(root / "jobs.sqlite") as db:
        db.execute("UPDATE jobs SET pid_start=?", (there,))
    RunWriter(run.path, 1).status(State.RUNNING, done=3, total=9)

    def heard(seconds: float) -> None:
        row = json.loads((run.path / "status.json").read_text())
        (run.path / "status.json").write_text(json.dumps({**row, "pid_start": there, "updated": time.time() - seconds}))

    heard(5)
    assert run.status().state is State.RUNNING and "cluster-7" in run.status().message
    with pytest.raises(Busy, match="already"):
        jobs.check_resumable(run, take_over=True)
    heard(900)
    assert run.status().state is State.UNHEARD and not run.status().state.ended
    with pytest.raises(Busy, match=f"--resume {run.id} --take-over"):
        jobs.check_resumable(run)
    assert jobs.job(job).state is State.RUNNING
    jobs.check_resumable(run, take_over=True)
    assert jobs.job(job).state is State.KILLED


def test_a_process_killed_inside_its_transaction_leaves_the_job_queued(root):
    job = jobs.submit("interactive", {"request": "info"})
    code = f"""
import sqlite3, time
db = sqlite3.connect({str(root / "jobs.sqlite")!r}, isolation_level=None)
db.execute("BEGIN IMMEDIATE"); db.execute("UPDATE jobs SET state='running'")
print("in", flush=True); time.sleep(60)
"""
    dying = python(code)
    assert said(dying) == "in"
    os.kill(dying.pid, signal.SIGKILL)
    dying.wait()
    assert jobs.claim("interactive").id == job


def test_an_interactive_job_of_a_dead_worker_tells_whoever_waits_for_it(root):
    job = jobs.submit("interactive", {"request": "info"})
    claimer = python(CLAIM_AND_WAIT.format(lane="interactive"))
    said(claimer)
    claimer.kill()
    claimer.wait()
    assert [j.id for j in jobs.recover()] == [job]
    assert [e["event"] for e in jobs.events(job)[0]] == ["error"]


def test_a_job_with_an_owner_is_taken_by_nobody_else(root):
    mine = jobs.submit("heavy", {"run": a_run(), "resume": False}, own=True)
    assert jobs.claim("heavy") is None
    assert jobs.claim("heavy", only=mine).id == mine


def test_a_terminal_waits_behind_the_app_only_while_somebody_can_take_the_apps_job(root):
    apps = jobs.submit("heavy", {"run": a_run(), "resume": False})
    mine = jobs.submit("heavy", {"run": a_run(), "resume": False}, own=True)
    jobs.register_worker("trainer")
    assert jobs.claim("heavy", only=mine) is None
    jobs.register_worker("something else")
    assert jobs.claim("heavy", only=mine).id == mine
    assert jobs.job(apps).state is State.QUEUED


def test_a_queued_job_of_a_terminal_that_is_gone_does_not_block_the_queue(root):
    run = a_run()
    code = f"""
from hdpo.work import jobs
print(jobs.submit("heavy", {{"run": {run!r}, "resume": False}}, own=True), flush=True); input()
"""
    terminal = python(code)
    gone = int(said(terminal))
    after = jobs.submit("heavy", {"run": a_run(), "resume": False})
    assert jobs.claim("heavy") is None
    terminal.kill()
    terminal.wait()
    assert jobs.claim("heavy").id == after
    assert jobs.job(gone).state is State.KILLED


def test_a_cancelled_queued_run_is_stopped_and_a_running_one_is_asked(root):
    queued, running = a_run(), a_run()
    second, first = (jobs.submit("heavy", {"run": r, "resume": False}) for r in (running, queued))
    jobs.cancel(first)
    assert jobs.job(first).state is State.STOPPED
    assert Run(root / queued).status().state is State.STOPPED
    assert jobs.claim("heavy").id == second
    jobs.cancel(second)
    assert stop_requested(root / running)
    assert jobs.job(second).state is State.RUNNING


def test_a_stop_of_an_earlier_attempt_does_not_stop_the_next(root):
    run = a_run()
    request_stop(root / run)
    jobs.submit("heavy", {"run": run, "resume": True})
    assert not stop_requested(root / run)


def test_events_are_read_on_from_an_offset_and_a_torn_line_waits(root):
    job = jobs.submit("interactive", {"request": "info"})
    assert jobs.events(job) == ([], 0)
    jobs.emit(job, {"event": "token", "piece": "π"})
    found, offset = jobs.events(job)
    assert [e["piece"] for e in found] == ["π"]
    path = root / "jobs" / str(job) / "events.jsonl"
    with path.open("a") as f:
        f.write('{"event": "do')
    assert jobs.events(job, offset) == ([], offset)
    with path.open("a") as f:
        f.write('ne"}\n')
    assert [e["event"] for e in jobs.events(job, offset)[0]] == ["done"]


def test_one_worker_a_role_and_none_leaves_while_a_job_waits(root):
    other = python(
        'from hdpo.work import jobs\nprint(jobs.register_worker("trainer"), flush=True)\ninput()\nprint(jobs.retire("heavy"))'
    )
    assert said(other) == "True"
    assert not jobs.register_worker("trainer")
    assert jobs.live_workers("trainer") == [other.pid]
    jobs.submit("heavy", {"run": a_run(), "resume": False})
    assert other.communicate("\n", timeout=30)[0].split() == ["False"]
    assert jobs.live_workers("trainer") == []
    assert jobs.register_worker("trainer")


def test_old_answers_and_requests_that_nobody_waits_for_go(root, monkeypatch):
    monkeypatch.setattr(jobs, "KEPT_ANSWERS", 1)
    done = [jobs.submit("interactive", {"request": "info"}) for _ in range(3)]
    for job in done:
        jobs.emit(job, {"event": "done", "result": {}})
        jobs.finish(job, State.DONE)
    waiting = jobs.submit("interactive", {"request": "info"})
    monkeypatch.setattr(jobs, "PATIENCE", -1.0)
    jobs.prune()
    assert [j.id for j in jobs.jobs("interactive")] == [waiting]
    assert jobs.job(waiting).state is State.KILLED
    assert not (root / "jobs" / str(done[-1])).exists()


def test_bad_input_is_a_sentence(root):
    for wrong in (lambda: jobs.submit("fast", {}), lambda: jobs.job(7), lambda: jobs.cancel(7)):
        with pytest.raises(BadInput, match="expected .* found"):
            wrong()
    with pytest.raises(BadInput, match="expected an end"):
        jobs.finish(1, State.RUNNING)


def test_a_damaged_or_unwritable_table_is_a_sentence(root, tmp_path):
    (root / "jobs.sqlite").write_bytes(b"not a database, and longer than a header of a hundred bytes " * 4)
    with pytest.raises(HdpoError, match="Delete"):
        jobs.claim("heavy")
    (tmp_path / "file").write_text("")
    with pytest.raises(HdpoError, match="HDPO_RUNS"):
        jobs.submit("interactive", {}, root=tmp_path / "file")


def test_a_table_that_another_program_keeps_locked_is_a_true_sentence(root, monkeypatch):
    monkeypatch.setattr(jobs, "LOCKED", 0.2)
    jobs.submit("interactive", {"request": "info"})
    keeper = sqlite3.connect(root / "jobs.sqlite", isolation_level=None)
    keeper.execute("BEGIN IMMEDIATE")
    with pytest.raises(HdpoError, match="Another program has kept"):
        jobs.submit("interactive", {"request": "info"})
    keeper.close()


def test_a_rolled_back_transaction_changes_nothing(root):
    with pytest.raises(RuntimeError), jobs._transaction(root) as db:
        db.execute("INSERT INTO workers VALUES (1, 1, 'trainer', 1)")
        raise RuntimeError
    with sqlite3.connect(root / "jobs.sqlite") as db:
        assert db.execute("SELECT count(*) FROM workers").fetchone() == (0,)


def test_looking_for_work_is_cheap(root):
    jobs.claim("heavy")
    start = time.perf_counter()
    for _ in range(20):
        jobs.claim("heavy")
    assert (time.perf_counter() - start) / 20 < 0.02


def test_the_job_table_needs_no_torch():
    code = "import sys, hdpo.work.jobs, hdpo.record.progress, hdpo.work.execute, hdpo.work.worker; print({'torch', 'transformers', 'peft'} & set(sys.modules))"
    assert said(python(code)) == "set()"


# --- progress ---------------------------------------------------------------------------------------------------------


def test_a_report_writes_the_status_and_stops_where_it_was_asked(root):
    writer = RunWriter.create("train", TrainConfig())
    seen: list[Progress] = []
    report = Report(writer, seen.append)
    report("sampling", 30, 60)
    assert seen[-1].seconds_left is None
    time.sleep(0.02)
    report("sampling", 31, 60)
    assert 0.02 * 29 * 0.9 < seen[-1].seconds_left < 60
    report("sampling", 60, 60)
    assert seen[-1].seconds_left == 0.0
    status = Run(writer.path).status()
    assert (status.state, status.done, status.total) == (State.RUNNING, 30, 60)
    request_stop(writer.path)
    assert report.stop_asked()
    with pytest.raises(Stopped, match="32 of 60 steps"):
        report("sampling", 32, 60)


def test_neither_what_came_before_nor_a_resumed_part_counts_as_speed(root):
    seen: list[Progress] = []
    report = Report(RunWriter.create("train", TrainConfig()), seen.append)
    report("loading the model", 30, 60)
    time.sleep(0.2)
    report("training", 30, 60)
    time.sleep(0.02)
    report("training", 31, 60)
    assert 0.02 * 29 * 0.9 < seen[-1].seconds_left < 0.15 * 29


def test_the_time_left_runs_down_while_something_else_goes_on(root):
    seen: list[Progress] = []
    report = Report(RunWriter.create("train", TrainConfig()), seen.append)
    report.meanwhile("evaluating at step 0", 1)
    assert seen[-1].seconds_left is None
    report("training", 31, 60, left=10.0)
    assert seen[-1].seconds_left == 10.0, "who knows his steps is believed"
    time.sleep(0.05)
    report.meanwhile("evaluating at step 32", 32)
    time.sleep(0.05)
    report.meanwhile("evaluating at step 32", 32)
    assert (seen[-1].phase, seen[-1].done) == ("evaluating at step 32", 32)
    assert 9.0 < seen[-1].seconds_left < 9.91


def test_a_report_writes_at_most_four_times_a_second(root, monkeypatch):
    writer = RunWriter.create("train", TrainConfig())
    writes = []
    monkeypatch.setattr(RunWriter, "status", lambda self, state, **facts: writes.append(facts))
    report = Report(writer)
    until = time.monotonic() + 0.6
    while time.monotonic() < until:
        report("sampling", 1, 2)
    assert len(writes) == 3


def test_a_member_stops_with_its_sweep(root):
    sweep, member = (RunWriter.create("train", TrainConfig()) for _ in range(2))
    request_stop(sweep.path)
    assert Report(member, watch=(sweep.path,)).stop_asked()
    assert not Report(member).stop_asked()


def test_the_status_of_a_report_is_valid_json_while_it_is_written(root):
    writer = RunWriter.create("train", TrainConfig())
    Report(writer)("evaluating", 0, 240, "problems")
    assert json.loads((writer.path / "status.json").read_text())["phase"] == "evaluating"


def test_asking_for_a_recorded_runs_job_writes_nothing_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr("hdpo.record.folder.ASSET_RUNS", tmp_path)
    assert jobs.pending_of(Run(tmp_path / "steep")) is None
    assert list(tmp_path.iterdir()) == []
