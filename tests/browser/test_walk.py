"""A person's way through the app in a real browser: scan → side by side → a short training → tradeoff, and every page.

It fails on any exception that a page shows, on any traceback in the server's log, and on any request to the outside.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import psutil
import pytest

from hdpo.assets import ASSETS
from hdpo.record.folder import Run
from workbench.components import by_hand, gradient, stage
from workbench.components.request import Request
from workbench.components.web import document
from workbench.data import fates
from workbench.figures import cliffs

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: pip install -r requirements-dev.txt"
)
ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = next((c for c in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if c), None)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on this machine (Debian: apt-get install chromium)"
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PAGES = ("", "cliffs", "side_by_side", "problems", "lambda_lab", "gap", "tradeoff", "verdict", "verifier")
PAGES += ("runs", "glossary")
DRAWN = ("", "cliffs", "lambda_lab", "gap", "tradeoff")  # with a figure, recorded runs being there
FIGURE = ".js-plotly-plot .main-svg, .picture svg"  # plotly's or a picture of ours
SMALLEST, ON_STAGE, FAINTEST = 14, 20, 4.5  # pixels, and contrast to 1
# The texts of figures that are smaller or fainter than that, each with its size and contrast.
UNREAD = """([smallest, faintest]) => {
  const light = (c) => {
    const [r, g, b] = c.map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number)
  const ground = (node) => {
    for (; node; node = node.parentElement || node.getRootNode().host) {
      const c = numbers(getComputedStyle(node).backgroundColor)
      if (c.length < 4 || c[3] > 0.9) return light(c.slice(0, 3))
    }
    return 1
  }
  const found = []
  const roots = [document, ...[...document.querySelectorAll("*")].map((e) => e.shadowRoot).filter(Boolean)]
  const texts = roots.flatMap((r) => [...r.querySelectorAll(".js-plotly-plot text, .picture svg text")])
  for (const text of texts) {
    if (!text.textContent.trim() || !text.getBoundingClientRect().width) continue
    const look = getComputedStyle(text), pair = [light(numbers(look.fill).slice(0, 3)), ground(text.closest("svg").parentElement)]
    const contrast = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05)
    const size = parseFloat(look.fontSize) * text.currentCSSZoom
    if (size < smallest - 0.01 || contrast < faintest) found.push(`${text.textContent}: ${size}, ${contrast.toFixed(1)}`)
  }
  return found
}"""
SCROLLED = "document.querySelector('[data-testid=stMain]').scrollTop"
PATIENCE = 120_000  # milliseconds; a cold worker on a busy machine


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("walk")) as address:
        yield address


@contextmanager
def serving(home: Path) -> Iterator[str]:
    """The app with its workers, over an empty runs folder; its address."""
    log = (home / "server.log").open("w+")
    environment = {**os.environ, "HDPO_RUNS": str(home / "runs"), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    environment.pop("HDPO_NO_WORKERS", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "workbench", "--port", "0"], cwd=ROOT, env=environment, stdout=log, stderr=log
    )
    try:
        yield f"http://127.0.0.1:{port_in(Path(log.name))}"
    finally:
        process.terminate()
        process.wait(20)
        for p in psutil.process_iter():
            try:
                if p.environ().get("HDPO_RUNS") == environment["HDPO_RUNS"]:
                    p.kill()
            except psutil.Error:
                continue
    # The one traceback that is let pass is the server library's own: of a socket that the browser gives up as it opens.
    before, *each = Path(log.name).read_text().split("Exception in ASGI application")
    assert "Traceback" not in before, before[before.index("Traceback") :][:6000]
    assert [e for e in each if "WebSocket is not connected" not in e] == []


def port_in(log: Path) -> int:
    for _ in range(300):
        if found := re.search(r"started on 127\.0\.0\.1:(\d+)", log.read_text()):
            return int(found[1])
        time.sleep(0.1)
    raise AssertionError(f"the server did not start:\n{log.read_text()}")


@pytest.fixture(scope="module")
def page(server: str) -> Iterator[sync_api.Page]:
    """A browser page that remembers every request to another host."""
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        outside: list[str] = []
        errors: list[str] = []
        page.on("pageerror", lambda e: errors.append(str(e)))
        page.on("request", lambda r: None if urlparse(r.url).hostname in ("127.0.0.1", None) else outside.append(r.url))
        yield page
        browser.close()
    assert outside == [] and errors == []


def visit(page: sync_api.Page, server: str, path: str) -> None:
    page.goto(f"{server}/{path}")
    page.get_by_role("heading", level=1).first.wait_for(timeout=PATIENCE)
    settled(page)


def settled(page: sync_api.Page) -> None:
    """The script has run to its end, and shows no exception."""
    page.wait_for_function("!document.querySelector('[data-testid=\"stStatusWidget\"]')", timeout=PATIENCE)
    page.wait_for_timeout(300)
    assert page.get_by_test_id("stException").count() == 0, page.get_by_test_id("stException").first.inner_text()


def test_scan_then_side_by_side_then_a_training_then_tradeoff(page: sync_api.Page, server: str) -> None:
    visit(page, server, "cliffs?cliffs_limit=12&cliffs_rollouts=4")
    page.get_by_text("New scan").click()  # folded, since a recorded scan comes with the project
    start, done = page.locator(".st-key-cliffs_start button"), page.get_by_text(re.compile("^12 prompts: "))
    start.click()
    with suppress(sync_api.TimeoutError):
        done.wait_for(timeout=PATIENCE / 2)
    if not done.count():  # the page was still being drawn: it asks for another click
        start.click()
    done.wait_for(timeout=PATIENCE)
    page.locator(FIGURE).first.wait_for(timeout=PATIENCE)
    settled(page)

    visit(page, server, "side_by_side?side_k=2")
    page.locator(".st-key-side_start button").click()
    page.get_by_text(re.compile("accepted for distillation|R = 1|correct|wrong", re.I)).first.wait_for(timeout=PATIENCE)
    settled(page)

    small = "lab_steps=2&lab_prompts_per_step=4&lab_rollouts=4&lab_privileged_rollouts=2&lab_eval_problems=8&lab_probe_cliffs=2"
    visit(page, server, f"lambda_lab?{small}")
    page.get_by_text("The prompts of the first problem").click()
    page.locator(".st-key-lab-prompts").get_by_text("Reference solution: ").wait_for(timeout=PATIENCE)
    page.locator(".st-key-lab_start button").click()
    page.get_by_text(re.compile(r"\bdone\b", re.I)).first.wait_for(timeout=PATIENCE)
    settled(page)
    assert page.get_by_test_id("stPlotlyChart").count() >= 1

    visit(page, server, "tradeoff")
    page.locator(FIGURE).first.wait_for(timeout=PATIENCE)
    settled(page)


def test_a_press_asks_whether_it_is_a_cliff(page: sync_api.Page, server: str) -> None:
    visit(page, server, "cliffs?cliffs_scan=steep-scan&cliffs_prompt=steep-val-0002")
    page.get_by_role("button", name="Is it a cliff?").click()
    page.get_by_text("cliff: pass rate below 1/64").wait_for(timeout=PATIENCE)
    settled(page)


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_stands_in_both_themes_and_in_a_narrow_window(
    page: sync_api.Page, server: str, name: str, theme: str
) -> None:
    page.emulate_media(color_scheme=theme)
    page.set_viewport_size({"width": 900, "height": 1000})
    visit(page, server, name)
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, "the page is wider than its window"
    if name in DRAWN:
        page.locator(FIGURE).locator("text").first.wait_for(timeout=PATIENCE)
        assert page.evaluate(UNREAD, [SMALLEST, FAINTEST]) == []


def test_panels_beside_each_other_keep_their_room_in_a_narrow_window(page: sync_api.Page, server: str) -> None:
    page.set_viewport_size({"width": 420, "height": 900})
    visit(page, server, "lambda_lab")
    page.locator(FIGURE).locator("text").first.wait_for(timeout=PATIENCE)
    page.wait_for_function("document.querySelector('.js-plotly-plot').getBoundingClientRect().width >= 700")
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    notes = page.get_by_test_id("stCaptionContainer")
    assert set(notes.evaluate_all("all => all.map(e => getComputedStyle(e).fontSize)")) == {"15px"}


@pytest.mark.parametrize("name", DRAWN)
def test_headline_and_main_figure_are_on_the_first_screen(page: sync_api.Page, server: str, name: str) -> None:
    page.set_viewport_size({"width": 1024, "height": 768})
    visit(page, server, name)
    chart = page.locator(FIGURE).first
    chart.wait_for(timeout=PATIENCE)
    box = chart.bounding_box()
    assert box is not None and box["y"] + box["height"] <= 768, f"the main figure ends at {box}"
    headline = page.get_by_role("heading", level=4).first.bounding_box()
    assert headline is not None and headline["y"] < box["y"]


def download_by(page: sync_api.Page, button: sync_api.Locator) -> sync_api.Download:
    """What a click hands over; while a figure is drawn anew there is nothing, and the button asks for another click."""
    for _ in range(2):
        with suppress(sync_api.TimeoutError):
            with page.expect_download(timeout=PATIENCE / 3) as download:
                button.click()
            return download.value
    with page.expect_download(timeout=PATIENCE) as download:
        button.click()
    return download.value


@pytest.mark.parametrize("name", ["gap", "tradeoff"])  # plotly's, and a picture of ours
def test_a_figure_is_saved_as_it_stands(page: sync_api.Page, server: str, name: str, tmp_path: Path) -> None:
    page.set_viewport_size({"width": 1280, "height": 1000})
    visit(page, server, name)
    page.get_by_text("About this figure").first.click()
    for kind, begins in (("svg", b"<svg"), ("png", b"\x89PNG")):
        button = page.get_by_text(f"Figure as {kind.upper()}").first
        button.wait_for(timeout=PATIENCE)
        download_by(page, button).save_as(tmp_path / kind)
        saved = (tmp_path / kind).read_bytes()
        assert saved.startswith(begins) and len(saved) > 5_000
    assert "λ = 0.3" in (tmp_path / "svg").read_text(encoding="utf-8")


def test_the_stage_leads_through_its_stations_by_keys_alone(page: sync_api.Page, server: str) -> None:
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 1920, "height": 1080})
    visit(page, server, "glossary")
    page.locator(".st-key-stage_on button").first.wait_for(timeout=PATIENCE)
    page.keyboard.press("s")
    bar = page.get_by_text(re.compile(r"^\d of \d · "))
    for number, station in enumerate(stage.STATIONS, 1):
        bar.filter(has_text=f"{number} of {len(stage.STATIONS)} · {station.idea}").wait_for(timeout=PATIENCE)
        settled(page)
        assert f"stage={station.name}" in page.url and not page.get_by_test_id("stSidebar").is_visible()
        assert page.evaluate(SCROLLED) == 0, "a station begins at its top"
        if station.page in DRAWN and station.name != "filter":  # a list of rollouts has no figure
            page.locator(FIGURE).locator("text").first.wait_for(timeout=PATIENCE)
            assert page.evaluate(UNREAD, [ON_STAGE, FAINTEST]) == []
        page.mouse.wheel(0, 900)
        page.keyboard.press("PageDown" if number % 2 else "ArrowRight")  # a clicker's key, and the keyboard's
    page.keyboard.press("s")
    page.get_by_test_id("stSidebar").wait_for(timeout=PATIENCE)
    page.get_by_text("Dark").click()
    page.get_by_text("Light").wait_for(timeout=PATIENCE)
    settled(page)
    assert "stage=" not in page.url and "tradeoff" in page.url
    assert page.locator(".paths .name").count() == 3, "the recorded runs, whatever was trained here"
    page.evaluate("localStorage.clear()")


def test_the_stage_fits_a_small_projector_and_keeps_its_keys_after_a_click(page: sync_api.Page, server: str) -> None:
    page.set_viewport_size({"width": 1280, "height": 720})
    for name in ("cliff", "map", "lambda", "gap", "tradeoff"):
        visit(page, server, f"?stage={name}")
        page.locator(FIGURE).locator("text").first.wait_for(timeout=PATIENCE)
        bar = page.locator(".st-key-stage-bar").bounding_box()
        assert bar is not None and bar["y"] + bar["height"] <= 720
        for _ in range(40):  # a figure below may be drawn before the first one is
            if (end := bottom(page.locator(FIGURE).first)) <= bar["y"]:
                break
            page.wait_for_timeout(250)
        assert end <= bar["y"], f"{name}: the figure ends at {end}, under the bar"
    visit(page, server, "?stage=filter")
    track = page.locator(".st-key-lab_step [role=group] > div").first.bounding_box()
    assert track is not None
    page.mouse.click(track["x"] + 0.6 * track["width"], track["y"] + track["height"] / 2)
    settled(page)
    page.locator(".st-key-lab_prompt input").click()
    page.get_by_role("option").nth(1).click()
    settled(page)
    page.keyboard.press("ArrowRight")
    page.wait_for_url(re.compile("stage=lambda"), timeout=PATIENCE)
    page.keyboard.press("s")


def bottom(place: sync_api.Locator) -> float:
    box = place.bounding_box()
    return box["y"] + box["height"] if box else math.inf


def test_side_by_side_opens_on_its_rollouts_and_the_lens_is_walked_by_arrow_keys(
    page: sync_api.Page, server: str
) -> None:
    page.set_viewport_size({"width": 1024, "height": 768})
    visit(page, server, "side_by_side?side_problem=steep-val-0002")
    rollouts = page.locator(".rollout")
    rollouts.last.wait_for(timeout=PATIENCE)
    ends = [box["y"] + box["height"] for box in map(sync_api.Locator.bounding_box, rollouts.all()) if box]
    assert len(ends) == 3 and max(ends) <= 768, f"equal rollouts once, and all on the first screen: they end at {ends}"
    headline = page.get_by_role("heading", level=4).first
    assert "they part at token 9" in headline.inner_text()
    page.set_viewport_size({"width": 1400, "height": 900})
    button = page.locator(".st-key-side_start button").bounding_box()
    assert button is not None and button["y"] + button["height"] <= 900

    tokens = page.locator(".strip .token")
    tokens.first.wait_for(timeout=PATIENCE)
    settled(page)
    assert tokens.nth(8).get_attribute("aria-pressed") == "true", "it begins at the biggest gap, here the fork"
    tokens.nth(8).focus()
    page.keyboard.press("ArrowLeft")
    assert tokens.nth(7).get_attribute("aria-pressed") == "true"
    assert "Token 8 of 41" in page.locator(".chosen").inner_text()
    page.set_viewport_size({"width": 420, "height": 900})
    page.wait_for_timeout(500)
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0


def test_a_place_outlives_a_change_of_page_a_reload_and_back(page: sync_api.Page, server: str) -> None:
    page.set_viewport_size({"width": 1400, "height": 900})
    visit(page, server, "cliffs?cliffs_scan=steep-scan&cliffs_kind=cliff&cliffs_prompt=steep-val-0002")
    here = page.get_by_text("Read it side by side")
    here.wait_for(timeout=PATIENCE)
    page.get_by_role("link", name="Gap", exact=True).click()
    page.get_by_role("heading", name="Gap", level=1).wait_for(timeout=PATIENCE)
    settled(page)
    assert "cliffs_" not in page.url and "gap_run=" in page.url and page.title() == "Gap · HDPO workbench"
    page.get_by_role("link", name="Cliffs", exact=True).click()
    here.wait_for(timeout=PATIENCE)
    settled(page)
    assert {"cliffs_scan=steep-scan", "cliffs_kind=cliff", "cliffs_prompt=steep-val-0002"} <= set(
        page.url.partition("?")[2].split("&")
    )
    page.reload()
    here.wait_for(timeout=PATIENCE)
    here.click()
    page.get_by_role("heading", name="Side by side", level=1).wait_for(timeout=PATIENCE)
    settled(page)
    assert "side_problem=steep-val-0002" in page.url and "cliffs_" not in page.url
    for _ in range(
        6
    ):  # each setting that a page takes out of its address as it is left is a step of the history as well
        page.go_back()
        page.wait_for_timeout(1000)
        if "cliffs_prompt=steep-val-0002" in page.url:
            break
    here.wait_for(timeout=PATIENCE)


def opened_by(page: sync_api.Page, act: Callable[[], None], prompt: str) -> None:
    act()
    page.locator(".st-key-cliffs-opened").get_by_text(f"{prompt}: ").wait_for(timeout=PATIENCE)
    settled(page)
    assert f"cliffs_prompt={prompt}" in page.url
    assert page.locator(f'.dot[data-id="{prompt}"]').first.get_attribute("aria-pressed") == "true"


def test_a_dot_of_the_map_opens_its_prompt_by_mouse_and_by_key(page: sync_api.Page, server: str) -> None:
    page.set_viewport_size({"width": 1400, "height": 900})
    visit(page, server, "cliffs?cliffs_map=steep-lambda-0.3-seed-0")
    dot = page.locator('.dot[data-id="steep-test-0002"]').first
    dot.wait_for(timeout=PATIENCE)
    page.locator(".player input").fill("4")
    opened_by(page, lambda: dot.click(force=True), "steep-test-0002")
    assert page.locator(".player .said").inner_text() == "step 20", "the map stays at its step"
    dot.focus()
    page.keyboard.press("ArrowUp")
    name = page.locator(".dot:focus").get_attribute("data-id")
    assert name != "steep-test-0002"
    opened_by(page, lambda: page.keyboard.press("Enter"), name)
    assert page.locator(".dot:focus").get_attribute("data-id") == name, "the focus is where it was"


def test_a_reward_flips_by_key_and_the_gradient_is_measured(page: sync_api.Page, server: str) -> None:
    page.set_viewport_size({"width": 1024, "height": 768})
    visit(page, server, "")
    square, said = page.get_by_role("button", name="Rollout 3 ").first, page.locator(".groups output").first
    sync_api.expect(said).to_contain_text("every advantage 0; gradient norm 0.", timeout=PATIENCE)  # says what is there
    square.focus()
    page.keyboard.press("Enter")
    said.filter(has_text=re.compile(r"^Right \+1\.00, wrong −0\.14; gradient norm 0\.0\d+\.$")).wait_for(
        timeout=PATIENCE
    )
    assert (
        page.locator(".groups [role=button]:focus").get_attribute("aria-label")
        == "Rollout 3 answered 6: reward 1 by hand"
    )
    page.get_by_role("heading", name=re.compile("^Cliff, 1 of 8 right by hand: gradient norm")).wait_for(
        timeout=PATIENCE
    )
    boxes = [page.locator(".groups svg").nth(i).bounding_box() for i in range(2)]
    assert all(b["y"] + b["height"] <= 768 for b in boxes) and boxes[0]["y"] == boxes[1]["y"], (
        "both stand on the first screen"
    )
    page.keyboard.press(" ")
    said.filter(has_text="every advantage 0; gradient norm 0.").wait_for(timeout=PATIENCE)


@contextmanager
def from_disk(
    page: sync_api.Page, name: str, data: dict[str, Any], folder: Path, motion: str
) -> Iterator[sync_api.Page]:
    """A picture opened from a file, in a page of its own that may ask for nothing else."""
    path = folder / f"{name}.html"
    path.write_text(document(name, data, name), encoding="utf-8")
    alone = page.context.browser.new_page(reduced_motion=motion)
    wrong: list[str] = []
    alone.on("pageerror", lambda e: wrong.append(str(e)))
    alone.on("request", lambda r: None if r.url == path.as_uri() else wrong.append(r.url))
    alone.goto(path.as_uri())
    yield alone
    alone.close()
    assert wrong == []


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_the_map_of_the_recorded_pair_plays_from_disk(
    server: str, page: sync_api.Page, motion: str, tmp_path: Path
) -> None:
    arms = fates.arms_of(Run(ASSETS / "runs" / "steep-lambda-0.3-seed-0"))
    frame = fates.over_steps(arms)
    data = cliffs.cliff_map(frame, "level", fates.redraw(arms[-1], frame)) | {"opened": "", "faded": [], "at": 0}
    with from_disk(page, "map", data, tmp_path, motion) as alone:
        assert "1 healed by luck" in alone.locator(".tally").inner_text()
        assert alone.locator(".dot").first.evaluate("d => getComputedStyle(d).transitionDuration") == (
            "0s" if motion == "reduce" else "0.6s"
        )
        alone.get_by_role("button", name="Play").press("ArrowRight")
        assert alone.locator(".said").inner_text() == "step 5"
        alone.get_by_role("button", name="Play").click()
        alone.get_by_text("step 60").wait_for(timeout=PATIENCE)
        told = alone.locator(".tally ul").last.inner_text()
        assert f"{fates.summary(frame)['recovered'].iloc[-1]} recovered" in told


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_advantages_grow_from_a_click_from_disk(page: sync_api.Page, motion: str, tmp_path: Path) -> None:
    groups = gradient.two_groups()
    rewards = [gradient.as_sampled(g) for g in groups.values()]
    answered = [Request({}, 0, 0.0, result={"grad_norm": norm}) for norm in (0.0, 0.1)]
    with from_disk(page, "gradient", gradient.picture_of(groups, rewards, answered), tmp_path, motion) as alone:
        said = alone.locator("output")
        assert said.all_inner_texts() == [
            "Equal rewards, every advantage 0; gradient norm 0.",
            "Right +0.57, wrong −0.57; gradient norm 0.1.",
        ]
        alone.get_by_role("button", name="Rollout 1 ").first.click()
        assert said.first.inner_text().startswith("Right +1.00, wrong −0.14; measuring")
        seconds = alone.locator(".groups rect").first.evaluate("r => getComputedStyle(r).transitionDuration")
        assert ("0s" if motion == "reduce" else "0.4s") in seconds
        alone.get_by_role("button", name="As sampled").first.click()
        assert said.first.inner_text() == "Equal rewards, every advantage 0; gradient norm 0."


def test_lambda_is_turned_by_hand_from_disk(page: sync_api.Page, tmp_path: Path) -> None:
    logp = [[[-1.0, -4.0 + i * (i > 0) * 0.5 + j * 0.1 * i] for j in range(6)] for i in range(6)]
    found = {"grpo": 0.0, "jsd": 0.01, "cosine": None, "sums": [0.01 * lam for lam in by_hand.LAMBDAS]}
    found |= {"pieces": ["<b>", ";"], "answer": [0], "before": [-1.0, -4.0], "after": logp}
    with from_disk(page, "by_hand", by_hand.data_of(found), tmp_path, "reduce") as alone:
        said = alone.locator("output")
        assert "right token ; (▼) 1.8 % → " in said.inner_text() and "Cosine" not in said.inner_text()
        alone.get_by_role("slider", name="λ").focus()
        for _ in range(3):
            alone.keyboard.press("ArrowLeft")
        assert "1.8 % → 1.8 %" in said.inner_text(), "λ = 0 on a cliff moves nothing"
        alone.get_by_role("img", name="norm of ∇L_GRPO: 0, norm of λ·∇L_JSD: 0, norm of their sum: 0").wait_for()
        assert alone.get_by_role("slider", name="λ").get_attribute("aria-valuetext") == "λ = 0"
        assert alone.locator(".hand title").first.text_content().startswith("<b>: ")
