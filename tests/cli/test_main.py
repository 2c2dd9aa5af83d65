"""The command line: flags from the settings, sentences for bad input, exit codes, one JSON object with --json."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hdpo.cli.follow import Bar
from hdpo.cli.main import main, make_parser
from hdpo.config import KINDS, TrainConfig, knobs
from hdpo.presets import INSTRUCT
from hdpo.record.folder import Run, RunWriter, State
from hdpo.record.progress import Progress
from hdpo.work import jobs
from hdpo.work.jobs import check_resumable
from hdpo.work.preflight import UNREAD
from tests.conftest import needs_model
from tests.fakes import fake_train_run

HOME = Path(__file__).resolve().parents[2]
GSM8K = HOME.parent / "shared" / "data" / "gsm8k" / "train.jsonl"
SMALL = [
    "--prompts-per-step",
    "4",
    "--rollouts",
    "2",
    "--privileged-rollouts",
    "1",
    "--eval-problems",
    "4",
    "--eval-samples",
    "2",
    "--ks",
    "1",
]
SMALL += ["--max-new-tokens", "16"]
TINY = [*SMALL, "--probe-cliffs", "0"]


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("HDPO_RUNS", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


def started(*arguments: str) -> subprocess.Popen[str]:
    """A shell that runs the tests in the background has them ignore Ctrl-C, and so would this; a person's does not."""
    return subprocess.Popen(
        [sys.executable, "-m", "hdpo", *arguments],
        cwd=HOME,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def ran(*arguments: str) -> tuple[int, str, str]:
    """(exit code, standard output, standard error)."""
    process = started(*arguments)
    out, err = process.communicate(timeout=240)
    return process.returncode, out, err


def only_run(root: Path) -> Run:
    (config,) = root.glob("*/config.json")
    return Run(config.parent)


# --- help and flags ---------------------------------------------------------------------------------------------------


def test_without_arguments_it_prints_help_and_imports_no_torch(root):
    code = "import sys; from hdpo.cli.main import main; main([]); assert not {'torch', 'transformers', 'peft'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=HOME, capture_output=True, text=True, check=True)
    for name in ("scan", "confirm", "rollouts", "train", "sweep", "evaluate", "gap", "bench", "runs"):
        assert re.search(rf"^    {name} ", done.stdout, re.M)


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_is_a_flag_with_its_default_and_the_papers_value(kind, capsys):
    with pytest.raises(SystemExit) as e:
        main([kind, "--help"])
    assert e.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for k in knobs(KINDS[kind]()):
        if k.name in UNREAD[kind]:
            continue
        assert f"{k.flag} " in text or f"{k.flag}, --no-" in text
        if k.paper:
            assert f"paper: {k.paper}" in text
    assert "default" in text


def test_flags_become_the_config_that_runs(root, monkeypatch):
    monkeypatch.setattr("hdpo.cli.main.run_here", lambda run, *rest: pytest.fail(str(run.load_config())))
    with pytest.raises(pytest.fail.Exception) as e:
        main(["train", "--lambda", "0.1", "--steps", "5", "--teacher", "frozen", "--ks", "1,2", "--eval-samples", "4"])
    assert "lambda_=0.1" in str(e.value) and "ks=(1, 2)" in str(e.value) and "FROZEN" in str(e.value)
    frozen = only_run(root).frozen()
    assert frozen["command"] == "python -m hdpo train --lambda 0.1 --steps 5 --teacher frozen --ks 1,2 --eval-samples 4"


def test_a_path_is_frozen_whole_so_that_the_run_finds_it_from_any_folder(root, monkeypatch):
    (root / "mine.jsonl").write_text('{"text": "1+1?", "solution": "2", "answer": "2"}\n')
    monkeypatch.chdir(root)
    monkeypatch.setattr("hdpo.cli.main.run_here", lambda run, *rest: (_ for _ in ()).throw(KeyboardInterrupt))
    assert main(["scan", "--problems", "mine.jsonl"]) == 130
    assert only_run(root).load_config().data.problems == str((root / "mine.jsonl").resolve())


def test_a_disk_that_takes_nothing_is_a_sentence_and_code_1(root, monkeypatch, capsys):
    (root / "file").write_text("")
    monkeypatch.setenv("HDPO_RUNS", str(root / "file"))
    assert main(["scan"]) == 1
    assert "HDPO_RUNS" in capsys.readouterr().err


def test_bench_measures_the_session_that_is_asked_for(root):
    needs_model()
    code, out, err = ran("bench", "--json", "--steps", "7", "--eval-every", "3", *SMALL)
    assert code == 0, err
    found = json.loads(out)
    assert found["step"] == pytest.approx(sum(found["phases"].values()), rel=0.5)
    assert found["session"] == pytest.approx(7 * found["step"] + 4 * found["evaluation"])
    assert 0 < found["floor"] < found["step"] and found["memory"] > 1e8
    assert not list(root.glob("*/config.json")), "nothing is left behind"


def test_another_model_is_asked_in_the_words_of_instruct_models(root, monkeypatch, capsys):
    monkeypatch.setattr("hdpo.cli.main.run_here", lambda run, *rest: (_ for _ in ()).throw(KeyboardInterrupt))
    assert main(["train", "--model", "team/qwen"]) == 130
    assert only_run(root).load_config().prompts == INSTRUCT
    assert "--student" in capsys.readouterr().err


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("train --lambda x", "--lambda: expected a number, found 'x'"),
        ("train --teacher nobody", "expected one of drifting, frozen"),
        ("train --ks 1,two", "expected a whole number, found 'two'"),
        ("train --steps 1e-3", "expected a whole number, found '1e-3'"),
        ("train --steps inf", "expected a whole number, found 'inf'"),
        ("train --lamda 1", "found --lamda (did you mean --lambda?). See python -m hdpo train --help"),
        ("train --lamb=1", "found --lamb=1 (did you mean --lambda?)"),
        ("trian", "'trian' (did you mean train?)"),
        ("runs lst", "'lst' (did you mean list?)"),
        ("runs export", "required: RUN. See python -m hdpo runs export --help"),
        ("runs export x --format xml", "choose from csv, json"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_what_cannot_be_read_is_a_sentence_and_code_2(root, capsys, arguments, words, as_json):
    assert main([*arguments.split(), *["--json"] * as_json]) == 2
    told = capsys.readouterr()
    assert words in told.err
    assert told.out == "" if not as_json else words in json.loads(told.out)["error"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--resume", ""],
        ["train", "--preset", ""],
        ["scan", "--model", ""],
        ["scan", "--adapter", " "],
        ["train", "--ks", ""],
        ["evaluate", "--problems", ""],
        ["rollouts", "--problem", ""],
        ["runs", "show", ""],
        ["runs", "rename", "latest", ""],
        ["runs", "export", "latest", "--out", ""],
    ],
)
def test_an_unset_shell_variable_is_told_and_starts_nothing(root, capsys, arguments):
    assert main(arguments) == 2
    assert "found an empty one (is a variable unset?)" in capsys.readouterr().err
    assert not list(root.iterdir())


def test_a_whole_number_may_be_written_with_an_exponent(root, monkeypatch):
    monkeypatch.setattr("hdpo.cli.main.run_here", lambda run, *rest: (_ for _ in ()).throw(KeyboardInterrupt))
    assert main(["train", "--steps", "1e3"]) == 130
    assert only_run(root).load_config().step.steps == 1000


def test_help_has_no_scientific_notation_a_list_of_presets_and_the_name_it_was_called_by(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = capsys.readouterr().out
    line = " ".join(text.split()).replace("paper: 1e-6", "")
    assert not re.search(r"\de[+-]?\d", line) and "0 to 2147483648" in line
    assert text.startswith("usage: python -m hdpo train") and re.search(r"^  quick +", text, re.M)
    with pytest.raises(SystemExit) as e:
        main(["--version"])
    assert e.value.code == 0 and re.fullmatch(r"hdpo \d+\.\d+\.\d+\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("train --lambda -1", "lambda: expected 0.0 to 1000.0, found -1.0"),
        ("train --lambda nan", "expected a finite number"),
        ("train --ks 0", "ks: expected at least 1, found 0"),
        ("scan --rollouts 1", "rollouts: expected 2 to 1024, found 1"),
        ("train --resume nothing", "run: expected the id, name or folder of a run, found 'nothing'"),
        ("runs show nothing", "run: expected"),
    ],
)
def test_a_setting_out_of_its_limits_is_a_sentence_and_code_2_and_makes_no_run(root, capsys, arguments, words):
    assert main(arguments.split()) == 2
    assert words in capsys.readouterr().err
    assert not list(root.glob("*/config.json"))


def test_with_json_an_error_is_an_object_too(root, capsys):
    assert main(["train", "--lambda", "-1", "--json"]) == 2
    assert "expected 0.0" in json.loads(capsys.readouterr().out)["error"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("train --model /typo", "model: expected 'bundled', a folder"),
        ("train --model no.gguf --problems openai/gsm8k", "model: expected"),
        ("scan --problems {root}/nothing.jsonl", "nothing.jsonl"),
        ("scan --problems {root}/columns.jsonl", "columns"),
        ("scan --problems {root}/few.jsonl --split test", "splits train, validation and all"),
        ("scan --problems bundled:steep --columns text=q,answer=a", "takes no column mapping"),
        (
            "train --problems {root}/few.jsonl --validation-share 0.5",
            "prompts-per-step: expected at least 32 training problems",
        ),
        ("train --max-new-tokens 600", "Lower --max-new-tokens to 256"),
        ("train --sampler vllm", "requirements-gpu.txt"),
        ("train --eval-samples 8", "at least twice the largest k"),
        ("rollouts --model /typo", "model: expected"),
        ("bench --problems {root}/nothing.jsonl", "nothing.jsonl"),
    ],
)
@pytest.mark.parametrize("dry", [False, True])
def test_a_slip_is_answered_before_torch_is_imported_and_leaves_nothing(root, arguments, words, dry):
    (root / "columns.jsonl").write_text('{"q": "1+1?", "a": "2"}\n')
    rows = [json.dumps({"text": f"{i}+1?", "solution": str(i + 1), "answer": str(i + 1)}) for i in range(20)]
    (root / "few.jsonl").write_text("\n".join(rows))
    if dry and arguments.split()[0] in ("rollouts", "bench"):
        pytest.skip("makes no run")
    given = [a.format(root=root) for a in arguments.split()] + ["--dry-run"] * dry
    code = f"import sys; from hdpo.cli.main import main; code = main({given!r}); sys.exit(99 if 'torch' in sys.modules else code)"
    done = subprocess.run([sys.executable, "-c", code], cwd=HOME, capture_output=True, text=True)
    assert done.returncode == 2 and words in done.stderr, done.stderr
    assert not list(root.glob("*/config.json"))


# --- heavy commands ---------------------------------------------------------------------------------------------------


def test_train_ends_with_a_run_folder_and_one_json_object(root):
    needs_model()
    code, out, err = ran("train", "--lambda", "0.1", "--steps", "2", "--json", *TINY)
    assert code == 0, err
    told = json.loads(out)
    assert told["state"] == "done" and told["result"]["last_step"]["step"] == 2
    assert Run(root / told["run"]).load_config().objective.lambda_ == 0.1
    assert "Run folder:" in err and "python -m workbench" not in out
    assert [j.state for j in jobs.jobs("heavy")] == [State.DONE]


def test_ctrl_c_stops_at_a_step_edge_and_resume_goes_on(root):
    needs_model()
    process = started("train", "--steps", "100000", "--checkpoint-every", "1", "--eval-every", "100000", *TINY)
    until = time.monotonic() + 120
    while not (list(root.glob("*/config.json")) and only_run(root).checkpoints()):
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    run = only_run(root)
    assert run.status().state is State.STOPPED
    assert "Ctrl-C again ends at once" in err and "Resume goes on after step" in err
    assert main(["train", "--resume", run.id, "--lambda", "1"]) == 2
    assert main(["scan", "--resume", run.id]) == 2
    check_resumable(run)


def test_any_problem_file_can_be_scanned(root, capsys):
    needs_model()
    if not GSM8K.is_file():
        pytest.skip("the shared data folder is absent")
    short = ["--limit", "20", "--rollouts", "2", "--max-new-tokens", "8", "--json"]
    assert main(["scan", "--problems", str(GSM8K), *short]) == 0
    assert json.loads(capsys.readouterr().out)["result"]["problems"] == 20


def test_a_second_heavy_job_says_who_is_first_and_exits_with_3(root):
    first = RunWriter.create("train", TrainConfig(), name="mine")
    job = jobs.submit("heavy", {"run": first.path.name, "resume": False})
    jobs.claim("heavy")
    first.status(State.RUNNING, phase="training", done=12, total=60, seconds_left=96.0)
    code, out, err = ran("train", "--no-wait", "--json")
    assert code == 3
    assert f"{first.path.name} (mine) is running: training 12 of 60, about 96 s left" in json.loads(out)["error"]
    assert only_run(root).id == first.path.name, "the run that could not start leaves no folder"
    assert jobs.running_heavy().id == job


def test_without_no_wait_it_waits_and_ctrl_c_leaves_the_queue(root):
    first = RunWriter.create("train", TrainConfig())
    jobs.submit("heavy", {"run": first.path.name, "resume": False})
    jobs.claim("heavy")
    process = started("train", "--steps", "1")
    while "waits its turn" not in process.stderr.readline():
        assert process.poll() is None
    (waiting,) = [j for j in jobs.jobs("heavy") if j.state is State.QUEUED]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert jobs.job(waiting.id).state is State.STOPPED
    assert not (root / waiting.payload["run"]).exists(), "a run that never began leaves no folder"


def test_a_finished_run_can_be_extended_and_becomes_the_longer_one(root, capsys):
    small = [w for w in TINY if w != "--json"]
    for steps in ("2", "1"):
        assert main(["train", *small, "--steps", steps]) == 0
    runs = [Run(c.parent) for c in root.glob("*/config.json")]
    whole, short = (r.path for r in sorted(runs, key=lambda r: -r.load_config().step.steps))
    capsys.readouterr()
    assert (
        main(["train", "--resume", short.name]) == 2 and f"--resume {short.name} --steps N" in capsys.readouterr().err
    )
    assert (
        main(["train", "--resume", short.name, "--steps", "1"]) == 2 and "more than the 1 of" in capsys.readouterr().err
    )
    assert main(["train", "--resume", short.name, "--steps", "2"]) == 0
    assert "goes on to step 2; it was begun with 1 steps" in capsys.readouterr().err
    assert Run(short).load_config().step.steps == 2
    ends = [(p / "checkpoints/step-000002/adapter_model.safetensors").read_bytes() for p in (whole, short)]
    assert ends[0] == ends[1]


def test_a_finished_or_waiting_run_cannot_be_resumed(root, capsys):
    done = Run(fake_train_run(root))
    assert main(["train", "--resume", done.id]) == 2
    assert "found it done" in capsys.readouterr().err
    half = Run(fake_train_run(root, state=State.STOPPED))
    jobs.submit("heavy", {"run": half.id, "resume": True})
    assert main(["train", "--resume", half.id]) == 3


# --- looking ----------------------------------------------------------------------------------------------------------


def test_rollouts_and_gap_show_one_problem(root, capsys):
    needs_model()
    common = ["--split", "validation", "--rollouts", "2", "--max-new-tokens", "24"]
    assert main(["rollouts", *common, "--wrong", "--json"]) == 0
    (shown,) = json.loads(capsys.readouterr().out)
    assert set(shown["sides"]) == {"student", "privileged", "wrong"}
    assert main(["rollouts", *common, "--problem", shown["problem"]["id"]]) == 0
    assert f"gold {shown['problem']['answer']}" in capsys.readouterr().out
    assert main(["gap", *common]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split()[:3] == ["token", "kl", "jsd"]
    assert lines[-1].split()[0] == "sum"
    assert main(["gap", *common, "--problem", "no such"]) == 2


def test_every_command_takes_json():
    commands = make_parser()._subparsers._group_actions[0].choices
    assert all("--json" in p.format_help() for p in commands.values())


def test_the_bar_shows_time_left_and_begins_anew_with_another_count(root, capsys):
    run = Run(RunWriter.create("train", TrainConfig()).path)
    bar = Bar(run)
    bar.show(Progress("scanning", 3, 20, "problems", 65.0))
    bar.show(Progress("training", 1, 5))
    bar.close()
    text = capsys.readouterr().err
    assert "scanning" in text and "training" in text and "/5 steps" in text


def test_a_closed_pipe_is_no_traceback(root):
    for _ in range(3):
        fake_train_run(root)
    command = f"{sys.executable} -m hdpo runs --json | head -c 1"
    done = subprocess.run(command, shell=True, cwd=HOME, capture_output=True, text=True, env=os.environ)
    assert "Traceback" not in done.stderr


def test_confirm_draws_fresh_rollouts_of_a_scan(root, real_scan_run, capsys):
    shutil.copytree(real_scan_run, root / real_scan_run.name)
    cliff = next(r["problem_id"] for r in Run(real_scan_run).metrics("scan_group") if r["group"] == "cliff")
    few = ["confirm", "--scan", "latest", "--problem", cliff, "--rollouts", "20"]
    assert main(few) == 0 and "undecided after 20" in capsys.readouterr().out
    assert main([*few, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["cliffs"][cliff]
    assert (found["drawn"], found["n"], found["decision"]) == (20, 20, "undecided") and 0 < found["high"] < 1
    assert main([*few, "--below", "0"]) == 2 and "between 0 and 1, found 20 and 0" in capsys.readouterr().err
    assert main(["confirm"]) == 2 and "--scan" in capsys.readouterr().err
