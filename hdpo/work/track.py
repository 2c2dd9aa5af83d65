"""A training's rows to a tracker as well (`--track`), by accelerate's own classes; off unless it is asked for.

Each row of kind step and eval goes there as it is written, under names such as step/reward and eval/pass_at.8.value. What counts
stays the run folder. A resumed run goes on in the same log.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from hdpo.config import TrainConfig
from hdpo.errors import BadInput
from hdpo.record.export import flatten
from hdpo.record.folder import Run, RunWriter

NONE = "none"
KINDS = ("step", "eval")
PROJECT = "hdpo"


def check_tracker(name: str) -> None:
    """Raises BadInput where the tracker's package is not there."""
    if name != NONE and find_spec(name) is None:
        raise BadInput(f"track: expected the package {name}, found none. pip install {name}, or leave --track out.")


@contextmanager
def tracked(writer: RunWriter) -> Iterator[None]:
    """While this lasts the writer's rows go to the tracker that its config names, if any. Raises BadInput as `check_tracker`."""
    config, run = Run(writer.path).load_config(), Run(writer.path)
    if not isinstance(config, TrainConfig) or config.track == NONE:
        yield
        return
    check_tracker(config.track)
    from accelerate.state import PartialState
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    PartialState()  # without which its log lines are an error
    if config.track == "tensorboard":  # `tensorboard --logdir runs` shows every run by its id
        how: dict[str, Any] = {"run_name": "tensorboard", "logging_dir": run.path}
    else:
        how = {"run_name": PROJECT, "name": run.id, "resume": "allow"}
        how |= {"id": run.id, "reinit": "create_new", "dir": run.path} if config.track == "wandb" else {}
    tracker = LOGGER_TYPE_TO_CLASS[config.track](**how)
    tracker.start()

    def tell(row: dict[str, Any]) -> None:
        if row["kind"] in KINDS:
            values = {f"{row['kind']}/{name}": value for name, value in flatten(row).items()}
            numbers = {name: float(value) for name, value in values.items() if isinstance(value, int | float)}
            # wandb drops what comes for an earlier step, as the evaluation of step 0 does; it finds the step in the row.
            tracker.log(numbers, step=None if config.track == "wandb" else row["step"])

    writer.also = tell
    try:
        yield
    finally:
        tracker.finish()
