"""`python -m tests.benchmarks.waits`: what people wait for, in seconds, on this machine as it is. About eight minutes.

Ten sessions at once are ten clients that speak a browser's protocol, without one: what is measured is the server. The pair
is started by a click in Chromium. Printed, in no table: a wait depends on whatever else the machine does, which is told.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from playwright.sync_api import sync_playwright
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection, connect

from hdpo.record.folder import Run, all_runs
from tests.browser.test_walk import CHROMIUM, FLAGS, PAGES, PATIENCE, serving, visit

SESSIONS, ROUNDS, EVERY = 10, 2, 2.0  # clients, walks through all pages, seconds from one page to the next
FIGURE = ".st-key-lab-pass .js-plotly-plot"


async def opened(socket: ClientConnection, page: str) -> float:
    """Seconds until the script of a page has run to its end."""
    message = BackMsg()
    message.rerun_script.page_name = page
    began = time.perf_counter()
    await socket.send(message.SerializeToString())
    while True:
        told = ForwardMsg.FromString(await socket.recv())  # type: ignore[arg-type]
        if told.WhichOneof("type") == "script_finished" and told.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY:
            return time.perf_counter() - began


async def walk(address: str, late: float, first: int) -> list[float]:
    """The waits of one session, which begins at its own page, after one walk that is not counted."""
    pages = [*PAGES[first:], *PAGES[:first]]
    await asyncio.sleep(late)
    waits = []
    async with connect(f"{address.replace('http', 'ws')}/_stcore/stream", max_size=None) as socket:
        for page in pages * (1 + ROUNDS):
            waits.append(await opened(socket, page))
            await asyncio.sleep(max(0.0, EVERY - waits[-1]))
    return waits[len(PAGES) :]


async def class_of(address: str, sessions: int) -> np.ndarray:
    """All waits of so many sessions, which begin evenly over EVERY."""
    walks = (walk(address, EVERY * i / sessions, i % len(PAGES)) for i in range(sessions))
    return np.concatenate(await asyncio.gather(*walks))


def pair(address: str) -> tuple[float, float, list[tuple[float, float]], float]:
    """A pair as the λ lab's form proposes it. Returns seconds from the click to the first word on the run and to the first figure;
    (seconds since the click, seconds left as told) after the third step of each arm; seconds from the click to the end."""
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        visit(page, address, "lambda_lab")
        page.locator(FIGURE).first.wait_for(timeout=PATIENCE)  # the recorded pair's
        began = time.perf_counter()
        page.get_by_role("button", name="Start as a pair").click()
        page.locator("[class*=st-key-badge-]").first.wait_for(timeout=PATIENCE)
        word = time.perf_counter() - began
        page.locator(FIGURE).first.wait_for(state="detached", timeout=PATIENCE)
        page.locator(FIGURE).first.wait_for(timeout=PATIENCE)
        figure = time.perf_counter() - began
        told = [(t - began, left) for t, left in times_left(next(r for r in all_runs() if r.kind == "sweep"))]
        browser.close()
    return word, figure, told, time.perf_counter() - began


def times_left(run: Run) -> Iterator[tuple[float, float]]:
    """(moment, seconds left as told) twice a second until the run ends, from the third step of both arms on."""
    while not (status := run.status()).state.ended:
        if status.done >= 6 and status.seconds_left is not None:
            yield time.perf_counter(), status.seconds_left
        time.sleep(0.5)


@contextmanager
def server() -> Iterator[str]:
    home = Path(tempfile.mkdtemp())
    os.environ["HDPO_RUNS"] = str(home / "runs")
    with serving(home) as address:
        yield address


def main() -> None:
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
    with server() as address:
        for sessions in (1, SESSIONS):
            waits = 1000 * asyncio.run(class_of(address, sessions))
            half, most = np.percentile(waits, (50, 95))
            print(
                f"{sessions} at once, a page each {EVERY:g} s: median {half:.0f} ms, p95 {most:.0f} ms of {len(waits)}",
                flush=True,
            )
        word, figure, told, end = pair(address)
        print(f"pair: first word {word:.1f} s after the click, first figure {figure:.1f} s, end {end:.0f} s")
        ratios = np.array([left / (end - at) for at, left in told if end - at > 5])
        print(
            f"time left over what came: {ratios[0]:.2f} after the third step, then {ratios.min():.2f} to {ratios.max():.2f}"
        )
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
