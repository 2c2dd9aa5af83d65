"""`python -m tests.chaos --seed 0 --kills 30`: SIGKILL at random moments, then resume, until a run is done; then it must
equal one that nobody disturbed: adapters byte for byte, rows, rollouts and tables but for times and attempts.

Scans, trainings, sweeps, evaluations and runs of two processes are begun in a terminal or through the app's job table,
and resumed by either, at once. It exits with 1 where anything differs, a resume is refused, or something is left behind.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from hdpo.record.folder import Run, State, all_runs
from hdpo.work import jobs

HOME = Path(__file__).resolve().parents[1]
TINY = "--max-new-tokens 16 --dtype float32 --device cpu"
STEPS = "--prompts-per-step 4 --rollouts 4 --privileged-rollouts 2 --eval-problems 8 --eval-samples 2 --ks 1 --probe-cliffs 2"
STEPS += f" --eval-every 4 --checkpoint-every 2 --lambda 0.3 {TINY}"
WORK = {
    "scan": f"scan --split validation --rollouts 4 {TINY}",
    "train": f"train --steps 24 {STEPS}",
    "sweep": f"sweep --lambdas 0,0.3 --seeds 0 --steps 10 {STEPS.replace('--lambda 0.3 ', '')}",
    "evaluate": f"evaluate --split validation --eval-problems 240 --eval-samples 4 --ks 1 {TINY}",
    "two processes": f"train --steps 8 --processes 2 {STEPS}",
}
PATIENCE = 900.0  # seconds that an attempt may take on a machine that has other things to do


@dataclass
class Chaos:
    """The dice, how many kills are left, and what went wrong."""

    dice: random.Random
    left: int
    killed: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def fault(self, words: str) -> None:
        self.faults.append(words)
        print(f"  FAULT: {words}", flush=True)


def terminal(root: Path, words: str) -> subprocess.Popen[bytes]:
    """A command in a terminal of its own."""
    log = (root / "terminal.log").open("ab")
    env = {**os.environ, "HDPO_RUNS": str(root)}
    command = [sys.executable, "-m", "hdpo", *words.split()]
    return subprocess.Popen(command, cwd=HOME, env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL)


def own_run(root: Path, kind: str) -> Run | None:
    """The run of this kind that is not a sweep's member; None where it was killed before it had a folder."""
    ours = (r for r in all_runs(root) if not r.recorded and (r.path / "config.json").is_file() and r.kind == kind)
    return next((r for r in ours if "member of" not in r.frozen()["command"]), None)


def unbroken(root: Path, words: str) -> Run:
    process = terminal(root, words)
    if process.wait(PATIENCE) != 0:
        raise SystemExit(f"{words}: the undisturbed run exited with {process.returncode}; see {root / 'terminal.log'}")
    run = own_run(root, words.split()[0])
    assert run is not None
    return run


def broken(chaos: Chaos, root: Path, words: str, name: str, kills: int) -> Run:
    """Begun, killed and resumed `kills` times or until it was quicker than the killer, and then brought to its end."""
    process = begin(chaos, root, words)
    for _ in range(kills):
        victim = wait_and_choose(chaos, root, process)
        if victim is None:
            break
        victim.kill()
        psutil.wait_procs([victim], timeout=60)
        if process is not None:
            process.wait(PATIENCE)  # where a rank was killed, its terminal notices
        while (job := jobs.running_heavy(root)) and job.pid != victim.pid and psutil.pid_exists(job.pid):
            time.sleep(0.1)  # and so does the app's trainer: until then the run is rightly called running
        chaos.left -= 1
        chaos.killed[name] = chaos.killed.get(name, 0) + 1
        run = own_run(root, words.split()[0])
        process = begin(chaos, root, words) if run is None else resume(chaos, root, run)
    while (run := own_run(root, words.split()[0])) is None:  # it is just starting
        time.sleep(0.1)
    finish(chaos, root, run, process)
    return run


def begin(chaos: Chaos, root: Path, words: str) -> subprocess.Popen[bytes] | None:
    """Start it, in a terminal or by a job of the app."""
    if chaos.dice.random() < 0.7:
        return terminal(root, words)
    from hdpo.cli.args import config_from
    from hdpo.cli.main import make_parser
    from hdpo.config import KINDS
    from workbench import launch

    args = make_parser().parse_args(words.split())
    launch.start_heavy(config_from(args, KINDS[args.kind]()))
    return None


def resume(chaos: Chaos, root: Path, run: Run) -> subprocess.Popen[bytes] | None:
    """Go on at once, in a terminal or by a job of the app."""
    if run.status().state is State.DONE:
        return None
    if chaos.dice.random() < 0.5:
        return terminal(root, f"{run.kind} --resume {run.id}")
    from workbench import launch

    try:
        launch.resume_run(run)
    except Exception as e:  # that is what is looked for
        chaos.fault(f"resume through the app: {type(e).__name__}: {e}")
    return None


def wait_and_choose(chaos: Chaos, root: Path, process: subprocess.Popen[bytes] | None) -> Any:
    """At a random moment, while it starts or shortly after it wrote something: a process of the run. None where it
    ended before."""
    starting, since, before = chaos.dice.random() < 0.25, time.monotonic(), written(root)
    delay = chaos.dice.uniform(0.2, 6.0) if starting else chaos.dice.uniform(0.0, 0.8)
    while time.monotonic() - since < PATIENCE:
        working = processes(root, process)
        if process is not None and process.poll() is not None and not working:
            return None
        if process is None:
            jobs.recover(root)  # as every page does that watches
            if not jobs.pending_heavy(root):
                return None
        if working and (starting or written(root) != before):
            time.sleep(delay)
            return chaos.dice.choice(processes(root, process) or [None])
        time.sleep(0.02)
    chaos.fault(f"nothing happened for {PATIENCE:.0f} s")
    return None


def processes(root: Path, process: subprocess.Popen[bytes] | None) -> list[psutil.Process]:
    """What works on the run: the terminal or the trainer, and the ranks that it launched."""
    found = []
    try:
        if process is not None:
            head = psutil.Process(process.pid) if process.poll() is None else None
        else:
            job = jobs.running_heavy(root)
            head = psutil.Process(job.pid) if job is not None else None
        if head is not None:
            ranks = [p for p in head.children(recursive=True) if "hdpo.work.execute" in " ".join(p.cmdline())]
            found = [head, *ranks]
    except psutil.Error:
        pass
    return found


def written(root: Path) -> int:
    """How much the runs have written so far."""
    logs = [*root.glob("*/metrics.jsonl"), *root.glob("*/rollouts/parts.jsonl"), *root.glob("*/tables/chunk-*")]
    return sum(f.stat().st_size for f in logs if f.exists())


def finish(chaos: Chaos, root: Path, run: Run, process: subprocess.Popen[bytes] | None) -> None:
    """Let it come to its end. A terminal that was refused is a fault; it is asked once more."""
    for attempt in range(3):
        if process is not None and process.wait(PATIENCE) == 3:
            chaos.fault(f"{run.id}: resume was refused: {(root / 'terminal.log').read_text().splitlines()[-1]}")
        until = time.monotonic() + PATIENCE
        while not run.status().state.ended and time.monotonic() < until:
            time.sleep(0.1)
        if run.status().state is State.DONE:
            return
        if attempt or run.status().state is not State.KILLED:
            print(f"  {run.id} ended as {run.status().state.value}: {run.status().message}", flush=True)
        process = terminal(root, f"{run.kind} --resume {run.id}")
    chaos.fault(f"{run.id}: does not come to its end: {run.status().message}")


def compare(chaos: Chaos, name: str, whole: Run, run: Run) -> None:
    """Every file that says what the run came to, but for times and attempts."""
    pairs = [(whole, run)]
    for a, b in zip(whole.members(), run.members(), strict=True):
        pairs.append((Run(whole.path.parent / a["id"]), Run(run.path.parent / b["id"])))
    for expected, found in pairs:
        for what, read in {"rows": rows, "rollouts": rollouts, "tables": tables, "adapters": adapters}.items():
            if read(expected) != read(found):
                chaos.fault(f"{name}: {what} of {found.path} differ from those of {expected.path}")
        left = [str(p) for p in found.path.rglob(".*.tmp")]
        for sentence in [*found.damage(), *left]:
            chaos.fault(f"{name}: {found.path}: {sentence}")


def rows(run: Run) -> list[dict[str, Any]]:
    timed = ("attempt", "seconds", "seconds_left")
    found = [{k: v for k, v in r.items() if not k.startswith(timed)} for r in run.metrics() if r["kind"] != "resume"]
    return sorted(found, key=lambda r: (r["kind"], r["step"], str(r.get("problem_id") or r.get("on"))))


def rollouts(run: Run) -> list[dict[str, Any]]:
    return sorted(run.rollouts(), key=lambda r: (r["step"], r["role"], r["problem_id"], r["index"]))


def tables(run: Run) -> list[Any]:
    found = sorted(p.name.rpartition("-step-")[0] for p in (run.path / "tables").glob("*.parquet"))
    return [(name, step, run.table(name, step)) for name in dict.fromkeys(found) for step in run.tables(name)]


def adapters(run: Run) -> list[Any]:
    return [(c.name, f.name, f.read_bytes()) for c in run.checkpoints() for f in sorted(c.glob("*.safetensors"))]


def end_workers(root: Path) -> None:
    for role in ("trainer", "training", "interactive"):
        for pid in jobs.live_workers(role, root):
            psutil.Process(pid).kill()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--only", choices=WORK, help="this kind of work alone")
    given = parser.parse_args()
    chaos, work = Chaos(random.Random(given.seed), given.kills), [w for w in WORK if given.only in (None, w)]
    os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}  # one way to add up, for all processes
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="hdpo-chaos-", ignore_cleanup_errors=True) as folder:
        wholes = {}
        for name in work:
            (calm := Path(folder) / f"calm {name}".replace(" ", "-")).mkdir()
            wholes[name] = unbroken(calm, WORK[name])
        round_number = 0
        while chaos.left > 0:
            for name in work:
                root = Path(folder) / f"{name}-{round_number}".replace(" ", "-")
                root.mkdir()
                os.environ["HDPO_RUNS"] = str(root)
                print(
                    f"{name}, round {round_number}, {chaos.left} kills left, {time.monotonic() - began:.0f} s",
                    flush=True,
                )
                try:
                    run = broken(chaos, root, WORK[name], name, min(chaos.left, chaos.dice.randint(1, 4)))
                    compare(chaos, name, wholes[name], run)
                finally:
                    end_workers(root)
            round_number += 1
    kills = ", ".join(f"{n} in {name}" for name, n in chaos.killed.items())
    print(f"seed {given.seed}: {kills}; {len(chaos.faults)} fault(s), {time.monotonic() - began:.0f} s")
    return int(bool(chaos.faults))


if __name__ == "__main__":
    sys.exit(main())
