"""Shared by the tests of the app: an empty runs folder a test, no workers, and runs of the real engine once a session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before anything imports torch: threads that spin on two shared cores are slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture
def runs_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty runs folder that `HDPO_RUNS` names; no worker is started."""
    import streamlit as st
    from streamlit import config
    from streamlit.logger import set_log_level

    config.set_option("server.address", "127.0.0.1")  # as workbench/.streamlit/config.toml has it

    set_log_level("ERROR")  # one warning a cache and a page says that no server runs
    root = tmp_path / "runs"
    root.mkdir()
    monkeypatch.setenv("HDPO_RUNS", str(root))
    monkeypatch.setenv("HDPO_NO_WORKERS", "1")
    monkeypatch.setattr(
        "hdpo.record.folder.ASSET_RUNS", tmp_path / "recorded"
    )  # a page's first choice is the test's own run
    st.cache_data.clear()
    st.cache_resource.clear()
    yield root


def execute_here(root: Path, kind: str, config: object) -> Path:
    """The real engine on the bundled model, in this process. Returns the finished run's folder."""
    from hdpo.record.folder import Run, RunWriter, State
    from hdpo.work.execute import execute

    writer = RunWriter.create(kind, config, root=root, command=f"python -m hdpo {kind}")
    execute(writer.path, resume=False)
    status = Run(writer.path).status()
    assert status.state is State.DONE, status.message
    return writer.path


def needs_model() -> None:
    if not (REPOSITORY / "assets" / "model" / "config.json").is_file():
        pytest.skip("assets/model is not there: build it with `python -m hdpo.organism build`")


@pytest.fixture(scope="session")
def real_train_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three steps of 6 × 4 at λ = 0.3, evaluated before and after on 12 problems × 4, with a probe set of 2 cliffs."""
    needs_model()
    from hdpo.config import TrainConfig, replace_knobs

    small = {
        "steps": 3,
        "prompts_per_step": 6,
        "rollouts": 4,
        "privileged_rollouts": 2,
        "eval_every": 3,
        "eval_problems": 12,
        "eval_samples": 4,
        "ks": (1, 2),
        "probe_cliffs": 2,
        "max_new_tokens": 48,
    }
    return execute_here(tmp_path_factory.mktemp("real"), "train", replace_knobs(TrainConfig(), small))


@pytest.fixture(scope="session")
def real_scan_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten validation problems × 4."""
    needs_model()
    from hdpo.config import ScanConfig, replace_knobs

    small = {"rollouts": 4, "split": "validation", "limit": 10, "max_new_tokens": 48}
    return execute_here(tmp_path_factory.mktemp("real"), "scan", replace_knobs(ScanConfig(), small))
