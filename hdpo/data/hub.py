"""Problem sets by hub id: a seeded sample by streaming, or the same rows from the cache where there is no network.

Nothing is downloaded whole: shards come in a seeded order and rows through a seeded buffer, and reading ends when the
caller has enough. Of a problem with several solutions the first that comes by is `y*`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hdpo.errors import BadInput, brief
from hdpo.hub import hub_errors

# Where the rows of the well-known sets stand; of any other, its only configuration and its split 'train'.
CONFIGURATION = {"openai/gsm8k": "main"}
SPLIT = {"HuggingFaceH4/MATH-500": "test"}
BUFFER = 10_000  # rows among which the order is shuffled

Row = dict[str, object]


def hub_rows(name: str, seed: int) -> Iterator[tuple[str, Row]]:
    """(place, row) in a seeded order, the place as a sentence may name it. Raises BadInput where nothing can be read."""
    import datasets
    import pyarrow
    from huggingface_hub import constants, errors

    datasets.disable_progress_bars()
    with hub_errors(f"problems {name}", "give a local file"):
        try:
            if constants.HF_HUB_OFFLINE:
                raise errors.OfflineModeIsEnabled("off")
            stream = datasets.load_dataset(
                name, CONFIGURATION.get(name), split=SPLIT.get(name, "train"), streaming=True
            )
        except (ConnectionError, errors.OfflineModeIsEnabled):
            stream = from_cache(name)
        except datasets.exceptions.DatasetNotFoundError as e:
            raise BadInput(
                f"problems {name}: expected a problem set on the hub, found none that is public. Check the spelling, or give a local file."
            ) from e
        except (ValueError, datasets.exceptions.DatasetsError) as e:
            raise BadInput(
                f"problems {name}: expected a set with a split '{SPLIT.get(name, 'train')}', found '{brief(e)}'. Save the part that you want as a file and give that."
            ) from e
        number = 0
        try:
            for number, row in enumerate(stream.shuffle(seed=seed, buffer_size=BUFFER), 1):
                yield f"Row {number} of {name}", row
        except (datasets.exceptions.DatasetsError, pyarrow.ArrowException, ValueError, TypeError) as e:
            raise BadInput(
                f"problems {name}: expected rows of one form, found '{brief(e)}' after row {number}. Save the part that you want as a file and give that."
            ) from e


def from_cache(name: str) -> Any:
    """The Parquet shards of a set that `hf download --repo-type dataset` put into the cache."""
    import datasets
    from huggingface_hub import snapshot_download

    folder = Path(snapshot_download(name, repo_type="dataset", local_files_only=True))
    split = SPLIT.get(name, "train")
    shards = [str(f) for f in sorted(folder.rglob("*.parquet")) if wanted(f.relative_to(folder), name, split)]
    if not shards:
        raise BadInput(
            f"problems {name}: expected Parquet files of the split '{split}' in the cache, found none. Fetch it where there is a network: hf download --repo-type dataset {name}"
        )
    return datasets.Dataset.from_parquet(shards, streaming=True)


def wanted(file: Path, name: str, split: str) -> bool:
    """Whether a shard, named as the hub's own converter does, belongs to the split (and configuration).

    >>> wanted(Path("main/train-00000-of-00001.parquet"), "openai/gsm8k", "train")
    True
    >>> wanted(Path("data/train_1M-00000-of-00003.parquet"), "nvidia/OpenMathInstruct-2", "train")
    False
    """
    configuration = CONFIGURATION.get(name)
    return file.name.split("-")[0].removesuffix(".parquet") == split and configuration in (None, *file.parts[:-1])
