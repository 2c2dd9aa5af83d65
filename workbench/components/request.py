"""One question to the interactive worker, asked once and read while it is answered.

A page calls `ask_once` at every rerun with the same payload and gets the same request back; another payload under the
same slot drops the old question and asks the new one. What has been read is kept in the session, the truth lies in the
job's event file.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from hdpo.processes import Life, life
from hdpo.record.folder import State
from hdpo.work import jobs
from workbench import launch, state

EVERY = 0.3  # seconds between two looks at a question that is being answered


@dataclass
class Request:
    """A question and what has come back so far. texts: (side, rollout) → text streamed so far."""

    payload: dict[str, Any]
    job: int
    asked: float
    offset: int = 0
    phase: str = ""
    texts: dict[tuple[str, int], str] = field(default_factory=dict)
    result: dict[str, Any] | None = None
    error: str = ""
    seconds: float = 0.0  # from the question to its answer, as they were read here

    @property
    def pending(self) -> bool:
        return self.result is None and not self.error

    def take(self, event: dict[str, Any]) -> None:
        """One event of the worker: phase, token, done or error; any other kind is of a later version and passed over."""
        kind = event.get("event")
        if kind == "token":
            place = (str(event["side"]), int(event["rollout"]))
            self.texts[place] = self.texts.get(place, "") + str(event["piece"])
        elif kind == "phase":
            self.phase = str(event["text"])
        elif kind == "done":
            self.result, self.seconds = event["result"], time.time() - self.asked
        elif kind == "error":
            self.error = str(event["text"])

    def read(self) -> None:
        """Take what is new. Where the worker died over it, or before it, the question is given up or given to another."""
        if not self.pending:
            return
        job = jobs.job(self.job)
        if job.state is State.QUEUED:
            launch.ensure_worker("interactive")
        elif job.state is State.RUNNING and life(job.pid, job.pid_start) is Life.DEAD:
            jobs.recover()
        events, self.offset = launch.answer(self.job, self.offset)
        for event in events:
            self.take(event)
        if self.pending and job.state.ended:
            self.error = job.message or f"The question ended without an answer ({job.state.value}). Ask again."


def ask_once(slot: str, payload: dict[str, Any]) -> Request:
    """The request of this slot for exactly this payload, read up to now; asked now if it is new."""
    requests = st.session_state.setdefault("requests", {})
    known: Request | None = requests.get(slot)
    if known is None or canonical(known.payload) != canonical(payload):
        drop(slot)
        known = requests[slot] = Request(payload, launch.ask(payload), time.time())
    known.read()
    return known


def drop(slot: str) -> None:
    """Forget the slot's question; one that still waits leaves the queue."""
    known: Request | None = st.session_state.get("requests", {}).pop(slot, None)
    if known is not None and known.pending:
        jobs.cancel(known.job)


def canonical(payload: dict[str, Any]) -> str:
    return json.dumps(payload, sort_keys=True)


def watch(requests: list[Request], draw: Callable[[], None]) -> None:
    """Draw now and, while a request is open, again every 0.3 s; one full rerun at the end removes the timer."""
    open_now = any(r.pending for r in requests)

    def live() -> None:
        for request in requests:
            request.read()
        draw()
        if open_now and not any(r.pending for r in requests):
            st.rerun()

    state.alone(live, EVERY if open_now else None)


def tell(asked: Request, answered: Callable[[dict[str, Any]], None]) -> None:
    """Show the answer once it is there; until then that it is waited for, or why there is none."""

    def draw() -> None:
        if asked.error:
            st.error(state.escape(asked.error))
        elif asked.result is None:
            st.caption(state.escape(waiting_words(asked)))
        else:
            answered(asked.result)

    watch([asked], draw)


def waiting_words(request: Request) -> str:
    """What an open request is doing, for a caption."""
    seconds = time.time() - request.asked
    if not request.phase and not launch.workers_wanted():
        return "No worker is started here (HDPO_NO_WORKERS is set), so the question waits."
    words = request.phase or "waiting for the model"
    return f"{words[0].upper()}{words[1:]} … {seconds:.0f} s"
