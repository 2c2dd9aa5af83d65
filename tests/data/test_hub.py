"""Problem sets by hub id: from the cache with the network off, in a seeded order, no more rows than are needed."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants

from hdpo.cli.main import main
from hdpo.config import ProblemConfig
from hdpo.data import hub as hub_problems
from hdpo.data.hub import hub_rows
from hdpo.data.problems import load_problems
from hdpo.errors import BadInput

COMMIT = "89abcdef0123456789abcdef0123456789abcdef"


def put(cache: Path, name: str, file: str, rows: list[dict[str, object]]) -> None:
    """A Parquet file of a dataset in the cache, laid out as huggingface_hub does."""
    home = cache / f"datasets--{name.replace('/', '--')}"
    (home / "refs").mkdir(parents=True, exist_ok=True)
    (home / "refs" / "main").write_text(COMMIT)
    (home / "blobs").mkdir(exist_ok=True)
    blob = home / "blobs" / file.replace("/", "-")
    pq.write_table(pa.Table.from_pylist(rows), blob)
    link = home / "snapshots" / COMMIT / file
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(blob)


def gsm8k(i: int) -> dict[str, object]:
    return {
        "question": f"Ann has {i} pens and buys 2. How many?",
        "answer": f"{i}+2=<<{i}+2={i + 2}>>{i + 2}\n#### {i + 2}",
    }


def open_math(i: int, source: str = "math", solution: str = "") -> dict[str, object]:
    return {
        "problem": f"What is {i} + 1?",
        "generated_solution": solution or f"It is \\boxed{{{i + 1}}}.",
        "expected_answer": str(i + 1),
        "problem_source": source,
    }


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three sets with the real file names and columns, and no network."""
    put(tmp_path, "openai/gsm8k", "main/train-00000-of-00001.parquet", [gsm8k(i) for i in range(40)])
    put(tmp_path, "openai/gsm8k", "main/test-00000-of-00001.parquet", [gsm8k(1000)])
    put(tmp_path, "openai/gsm8k", "socratic/train-00000-of-00001.parquet", [gsm8k(2000)])
    sources = ("math", "gsm8k", "augmented_math", "augmented_gsm8k")
    for shard in range(4):
        rows = [open_math(100 * shard + i, sources[i % 4]) for i in range(100)]
        put(tmp_path, "nvidia/OpenMathInstruct-2", f"data/train-0000{shard}-of-00004.parquet", rows)
    put(tmp_path, "nvidia/OpenMathInstruct-2", "data/train_1M-00000-of-00001.parquet", [open_math(9999)])
    math = {
        "problem": "What is 2+2?",
        "solution": "It is \\boxed{4}.",
        "answer": "4",
        "subject": "Algebra",
        "level": 3,
        "unique_id": "test/algebra/1.json",
    }
    put(tmp_path, "HuggingFaceH4/MATH-500", "test-00000-of-00001.parquet", [math])
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN", 0.05)  # 5 s at the end of each stream
    return tmp_path


def test_gsm8k_is_the_training_split_of_its_main_configuration(cache: Path) -> None:
    found = load_problems(ProblemConfig("openai/gsm8k"), "all")
    assert found.read == len(found.problems) == 40
    assert {int(p.answer) for p in found.problems} == {i + 2 for i in range(40)}
    assert "<<" not in found.problems[0].solution and found.problems[0].source == "gsm8k"


def test_math_500_is_known_by_its_columns(cache: Path) -> None:
    (found,) = load_problems(ProblemConfig("HuggingFaceH4/MATH-500"), "all").problems
    assert (found.answer, found.level, found.source, found.id) == ("4", 3, "Algebra", "test/algebra/1.json")


def test_the_sample_is_seeded_and_comes_from_all_shards(cache: Path) -> None:
    def ids(seed: int) -> list[str]:
        return [
            p.answer
            for p in load_problems(
                ProblemConfig("nvidia/OpenMathInstruct-2", limit=60, split_seed=seed), "all"
            ).problems
        ]

    assert ids(1) == ids(1) != ids(2)
    assert len({(int(a) - 1) // 100 for a in ids(1)}) == 4
    assert "10000" not in load_problems_answers(400)  # train_1M repeats rows of train and is not read


def load_problems_answers(limit: int) -> set[str]:
    return {p.answer for p in load_problems(ProblemConfig("nvidia/OpenMathInstruct-2", limit=limit), "all").problems}


def test_sources_choose_which_problems_count(cache: Path) -> None:
    found = load_problems(ProblemConfig("nvidia/OpenMathInstruct-2", limit=100, sources="math,gsm8k"), "all")
    assert len(found.problems) == 100 and {p.source for p in found.problems} == {"math", "gsm8k"}
    with pytest.raises(BadInput, match="comes from nobody"):
        load_problems(ProblemConfig("nvidia/OpenMathInstruct-2", limit=5, sources="nobody"), "all")


def test_the_sides_are_disjoint_and_the_first_solution_is_y(cache: Path) -> None:
    rows = [open_math(i, solution=s) for i in range(60) for s in ("", "second")]
    put(cache, "team/many", "data/train-00000-of-00001.parquet", rows)
    sides = [
        load_problems(ProblemConfig("team/many", validation_share=0.3), side).problems
        for side in ("train", "validation")
    ]
    assert len(sides[0]) + len(sides[1]) == 60 and not {p.text for p in sides[0]} & {p.text for p in sides[1]}
    first = {}
    for _, row in hub_rows("team/many", 42):
        first.setdefault(row["problem"], row["generated_solution"])
    assert all(p.solution == first[p.text] for side in sides for p in side)


def test_a_set_of_millions_asks_for_a_limit(cache: Path) -> None:
    with pytest.raises(BadInput, match="limit: expected how many"):
        load_problems(ProblemConfig("nvidia/OpenMathInstruct-2"), "all")


def test_rows_of_two_forms_are_refused_in_a_sentence(cache: Path) -> None:
    put(cache, "team/mixed", "data/train-00000-of-00002.parquet", [open_math(1)])
    put(cache, "team/mixed", "data/train-00001-of-00002.parquet", [{**open_math(2), "expected_answer": {"value": 3}}])
    with pytest.raises(BadInput, match="problems team/mixed: expected .* rows of one form, found .* after row"):
        load_problems(ProblemConfig("team/mixed"), "all")


def test_no_more_rows_are_read_than_the_buffer_and_the_sample_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    seen: list[int] = []

    def shard(files: list[str]):
        for file in files:
            for row in pq.read_table(file).to_pylist():
                seen.append(1)
                yield row

    files = []
    for number in range(4):
        files.append(str(tmp_path / f"{number}.parquet"))
        pq.write_table(pa.Table.from_pylist([open_math(1000 * number + i) for i in range(1000)]), files[-1])
    stream = datasets.IterableDataset.from_generator(shard, gen_kwargs={"files": files})
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: stream)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub_problems, "BUFFER", 100)
    assert len(load_problems(ProblemConfig("team/stream", limit=50), "all").problems) == 50
    assert 50 <= len(seen) <= 100 + 50 + 1


@pytest.mark.parametrize(
    ("name", "words"), [("openai/unknown", "found neither"), ("team/empty", "Parquet files of the split 'train'")]
)
def test_without_network_each_missing_set_has_its_sentence(cache: Path, name: str, words: str) -> None:
    put(cache, "team/empty", "data/other-00000-of-00001.parquet", [open_math(1)])
    with pytest.raises(BadInput, match=words) as e:
        load_problems(ProblemConfig(name, limit=5), "all")
    assert name in str(e.value)


def test_a_scan_takes_a_hub_set_with_the_network_off(
    cache: Path, runs_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["scan", "--problems", "openai/gsm8k", "--limit", "3", "--rollouts", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["result"]["problems"] == 3
