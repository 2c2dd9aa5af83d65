"""Problem sets by hub id: a seeded sample by streaming, or the same rows from the cache where there is no network.

Nothing is downloaded whole: shards come in a seeded order and rows through a seeded buffer, and reading ends when the
caller has enough. Of a problem with several solutions the first that comes by is `y*`.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any

from hdpo.data.readers import Rows
from hdpo.errors import BadInput, brief
from hdpo.hub import hub_errors

# Where the rows of the well-known sets stand; of any other, its only configuration and its split 'train'.
CONFIGURATION = {"openai/gsm8k": "main"}
SPLIT = {"HuggingFaceH4/MATH-500": "test"}
BUFFER = 10_000  # rows among which the order is shuffled


def hub_rows(name: str, seed: int) -> Rows:
    """(place, row) in a seeded order, the place as a sentence may name it. Raises BadInput where nothing can be read."""
    import datasets
    import pyarrow

    datasets.disable_progress_bars()
    configuration, split, number = CONFIGURATION.get(name), SPLIT.get(name, "train"), 0
    with hub_errors(f"problems {name}", "give a local file"):
        try:
            stream = _stream(name, configuration, split)
            for number, row in enumerate(stream.shuffle(seed=seed, buffer_size=BUFFER), 1):
                yield f"Row {number} of {name}", row
        except datasets.exceptions.DatasetNotFoundError as e:
            found = "found none that is public. Check the spelling, or give a local file"
            raise BadInput(f"problems {name}: expected a problem set on the hub, {found}.") from e
        except (datasets.exceptions.DatasetsError, pyarrow.ArrowException, ValueError, TypeError) as e:
            found = f"a split '{split}' with rows of one form, found '{brief(e)}' after row {number}"
            way = "Save the part that you want as a file and give that."
            raise BadInput(f"problems {name}: expected {found}. {way}") from e


def _stream(name: str, configuration: str | None, split: str) -> Any:
    """From the hub; where it cannot be reached, the Parquet shards that `hf download --repo-type dataset` put into the cache."""
    import datasets
    from huggingface_hub import constants, errors, snapshot_download

    with suppress(ConnectionError, errors.OfflineModeIsEnabled):
        if not constants.HF_HUB_OFFLINE:
            return datasets.load_dataset(name, configuration, split=split, streaming=True)
    folder = Path(snapshot_download(name, repo_type="dataset", local_files_only=True))
    files = sorted(folder.rglob("*.parquet"))
    shards = [str(f) for f in files if wanted(f.relative_to(folder), configuration, split)]
    if not shards:
        way = f"Fetch it where there is a network: hf download --repo-type dataset {name}"
        raise BadInput(
            f"problems {name}: expected Parquet files of the split '{split}' in the cache, found none. {way}"
        )
    return datasets.Dataset.from_parquet(shards, streaming=True)


def wanted(file: Path, configuration: str | None, split: str) -> bool:
    """Whether a shard, named as the hub's own converter does, belongs to the split (and configuration).

    >>> wanted(Path("main/train-00000-of-00001.parquet"), "main", "train")
    True
    >>> wanted(Path("data/train_1M-00000-of-00003.parquet"), None, "train")
    False
    """
    return file.name.split("-")[0].removesuffix(".parquet") == split and configuration in (None, *file.parts[:-1])
