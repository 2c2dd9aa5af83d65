"""Figures against given frames: the traces hold the frame's numbers, and no frame breaks them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from workbench.data import paper
from workbench.figures import cliffs, gap, headlines, live, style, tradeoff

GROUPS = (
    "mixed",
    "solved",
    "cliff_recovered",
    "cliff_lost",
    "cliff_skipped",
    "cliff_too_long",
    "doubtful_grader",
    "no_signal",
    "too_long",
    "ungradable",
)


def steps(run: str | None = None, rows: int = 3) -> pd.DataFrame:
    """`rows` steps of 32 prompts; group counts follow from the step so that a mixed-up column shows."""
    s = np.arange(1, rows + 1)
    frame = pd.DataFrame({"step": s})
    for i, name in enumerate(GROUPS):
        frame[f"groups_{name}"] = i + s
    for i, name in enumerate(
        (
            "reward",
            "loss_grpo",
            "loss_jsd",
            "jsd_floor",
            "grad_norm",
            "grad_norm_grpo",
            "grad_norm_jsd",
            "length",
            "entropy",
            "step_gap",
            "off_policy",
            "lambda",
        )
    ):
        frame[name] = 0.1 * i + 0.01 * s
    frame["parity_kl"] = np.nan
    return frame if run is None else frame.assign(run=run)


def evals(run: str | None = None, at: tuple[int, ...] = (0, 10)) -> pd.DataFrame:
    rows = [
        {"step": s, "metric": m, "value": 0.1 * i + s / 100, "low": 0.1 * i, "high": 0.1 * i + 0.3, "n_problems": 40}
        for s in at
        for i, m in enumerate(live.EVALS, 1)
    ]
    frame = pd.DataFrame(rows)
    return frame if run is None else frame.assign(run=run)


def probe(run: str | None = None, at: tuple[int, ...] = (0, 10)) -> pd.DataFrame:
    rows = [
        {"step": s, "on": on, "metric": m, "value": j + i + s, "low": j + i, "high": j + i + 20.0, "n_traces": 3}
        for s in at
        for j, on in enumerate(("privileged", "own"))
        for i, m in enumerate(("kl_drifting", "kl_frozen", "mismatch"), 1)
    ]
    frame = pd.DataFrame(rows)
    return frame if run is None else frame.assign(run=run)


def tokens(at: int = 0) -> pd.DataFrame:
    """Two privileged traces of 3 and 2 tokens, and one own token."""
    place = [
        ("privileged", 0, 0),
        ("privileged", 0, 1),
        ("privileged", 0, 2),
        ("privileged", 1, 0),
        ("privileged", 1, 1),
        ("own", 2, 0),
    ]
    kl = [0.1, 0.2, 0.4, 0.3, 0.6, 0.05]
    return pd.DataFrame(
        {
            "on": [p[0] for p in place],
            "trace": [p[1] for p in place],
            "position": [p[2] for p in place],
            "token": ["a", "<b>", "c", "d", "e", "f"],
            "kl_drifting": kl,
            "kl_frozen": [2 * v + at for v in kl],
            "lemma1": [1.0, 2.0, 4.0, 8.0, 16.0, 32.0],
            "range_bound": [0.5, 1.0, 2.0, 4.0, 8.0, 16.0],
        }
    )


def scan() -> pd.DataFrame:
    rows = [
        ("cliff", "", 0),
        ("cliff", "", 0),
        ("cliff", "truncation", 0),
        ("mixed", "", 3),
        ("solved", "", 8),
        ("gold unparsable", "", 0),
    ]
    return pd.DataFrame([{"group": g, "doubt": d, "n": 8, "correct": c} for g, d, c in rows])


def points() -> pd.DataFrame:
    rows = []
    for lam, seed, x, y in ((0.0, 0, 0.6, 0.5), (0.0, 1, 0.7, 0.6), (0.3, 0, 0.65, 0.8)):
        ends = {"x": x, "x_low": x - 0.1, "x_high": x + 0.05, "y": y, "y_low": y - 0.1, "y_high": y + 0.05}
        facts = {
            "run": f"r{lam}{seed}",
            "recorded": seed == 1,
            "arm": f"λ = {lam:g}",
            "lambda": lam,
            "seed": seed,
            "base_x": 0.4,
            "base_y": 0.5,
        }
        rows.append({**facts, **ends})
    return pd.DataFrame(rows)


def over_k(column: str = "k") -> pd.DataFrame:
    rows = [
        {
            "run": r,
            "arm": arm,
            "lambda": lam,
            "seed": seed,
            column: k,
            "metric": "pass@1",
            "value": v + k / 100,
            "low": v,
            "high": v + 0.1,
        }
        for r, arm, lam, seed, v in (
            ("a", "λ = 0", 0.0, 0, 0.4),
            ("b", "λ = 0", 0.0, 1, 0.6),
            ("c", "λ = 3", 3.0, 0, 0.5),
        )
        for k in (1, 2)
    ]
    return pd.DataFrame(rows)


def differences() -> pd.DataFrame:
    rows = [
        {"arm": "λ = 0.3", "lambda": 0.3, "metric": m, "value": v, "low": v - 0.02, "high": v + 0.03}
        for m, v in (("pass@1", -0.01), ("pass@8", 0.15), ("cliff", -0.3))
    ]
    return pd.DataFrame(rows)


def trace(fig: go.Figure, name: str, number: int = 0) -> go.Scatter:
    found = [t for t in fig.data if t.name == name]
    assert len(found) > number, f"{name!r} is not among {[t.name for t in fig.data]}"
    return found[number]


NOTHING = pd.DataFrame()
DRAWN = {
    "signal": (live.signal_accounting, steps()),
    "reward": (live.reward, steps()),
    "losses": (live.loss_terms, steps()),
    "gradients": (live.grad_norms, steps()),
    "interference": (live.interference, steps()),
    "off-policy": (live.off_policy, steps()),
    "length": (live.length_entropy, steps()),
    "probe": (live.probe_gap, probe()),
    "pass": (live.pass_at, evals()),
    "regimes": (cliffs.regimes, cliffs.count_regimes(scan()["group"])),
    "position": (lambda f: gap.kl_by_position(f, f), tokens()),
    "bounds": (lambda f: gap.bounds_scatter(f, 500), tokens()),
    "mismatch": (gap.mismatch_over_training, probe()),
    "k": (tradeoff.pass_k_curves, over_k()),
    "level": (lambda f: tradeoff.by_level(f, ("pass@1",)), over_k("level")),
    "plane": (lambda f: tradeoff.difference_plane(f, "pass@1", "pass@8"), differences()),
}
IDENTITY = {
    "step",
    "run",
    "on",
    "metric",
    "group",
    "doubt",
    "n",
    "correct",
    "trace",
    "position",
    "token",
    "arm",
    "lambda",
    "seed",
    "k",
    "level",
    "kind",
    "prompts",
}


@pytest.mark.parametrize("name", DRAWN)
def test_an_empty_frame_draws_a_sentence(name: str) -> None:
    draw, frame = DRAWN[name]
    for empty in (NOTHING, frame.iloc[:0]):
        fig = draw(empty)
        assert not fig.data
        assert len(fig.layout.annotations[0].text) > 10


@pytest.mark.parametrize("name", DRAWN)
def test_one_row_and_missing_values_draw(name: str) -> None:
    draw, frame = DRAWN[name]
    draw(frame.iloc[:1]).to_json()
    numbers = [c for c in frame.columns if c not in IDENTITY]
    blank = frame.assign(**dict.fromkeys(numbers))
    draw(blank.astype(dict.fromkeys(numbers, float))).to_json()
    endless = frame.assign(**{c: np.inf for c in numbers if c in ("low", "high")})
    draw(endless).to_json()


@pytest.mark.parametrize("name", DRAWN)
def test_figures_take_the_theme_and_keep_a_zoom(name: str) -> None:
    draw, frame = DRAWN[name]
    layout = draw(frame).layout
    assert layout.paper_bgcolor == layout.plot_bgcolor == "rgba(0,0,0,0)"
    assert layout.uirevision and layout.font.color is None


# --- style --------------------------------------------------------------------------------------------------


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(a: str, b: str) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


REGIMES = (style.CLIFF, style.MIXED, style.SOLVED, style.RECOVERED, style.DOUBT)


@pytest.mark.parametrize(
    "look", [*REGIMES, *style.LAMBDAS.values(), style.GREY], ids=lambda k: f"{k.colour}-{k.symbol}"
)
def test_colours_are_seen_on_white_and_on_the_dark_page(look: style.Look) -> None:
    assert contrast(look.colour, "#ffffff") >= 3
    assert contrast(look.colour, "#0e1117") >= 3


@pytest.mark.parametrize("looks", [REGIMES, tuple(style.LAMBDAS.values())])
def test_colour_is_never_alone(looks: tuple[style.Look, ...]) -> None:
    assert len({k.symbol for k in looks}) == len({k.pattern for k in looks}) == len(looks)
    assert all(a.dash != b.dash for a, b in zip(looks, looks[1:], strict=False))


def test_one_colour_means_one_thing() -> None:
    looks = [*REGIMES, *style.LAMBDAS.values()]
    assert len({look.colour for look in looks}) == len(looks)


def titles(fig: go.Figure) -> list[str]:
    """Of its panels, without the names at the ends of lines."""
    return [a.text for a in fig.layout.annotations if a.xref == "paper"]


def at_ends(fig: go.Figure) -> list[str]:
    return [a.text.partition("</span> ")[2] for a in fig.layout.annotations if a.xref != "paper"]


def test_up_to_six_lines_carry_their_names_and_more_have_a_legend() -> None:
    few = live.reward(pd.concat([steps(f"λ = {i}").assign(**{"lambda": i}) for i in (0.0, 0.3)]))
    assert at_ends(few) == ["λ = 0.0", "λ = 0.3"] and not any(t.showlegend for t in few.data)
    many = live.reward(pd.concat([steps(f"run {i}") for i in range(7)]))
    assert at_ends(many) == [] and sum(bool(t.showlegend) for t in many.data) == 7


def test_names_at_the_ends_do_not_lie_on_one_another() -> None:
    fig = live.reward(pd.concat([steps(f"run {i}") for i in range(6)]))  # six lines with the same values
    heights = sorted(a.y for a in fig.layout.annotations if a.xref != "paper")
    pixels = 300 - 126
    assert min(b - a for a, b in zip(heights, heights[1:], strict=False)) >= style.TEXT * 1.04 / pixels
    assert heights[-1] <= 1.02


def test_axes_stand_still_while_a_run_goes_on() -> None:
    early, late = live.pass_at(evals(at=(0,)), planned=60), live.pass_at(evals(at=(0, 10, 60)), planned=60)
    assert early.layout.xaxis.range == late.layout.xaxis.range and early.layout.xaxis.range[1] >= 60
    assert early.layout.yaxis.range == late.layout.yaxis.range == (-0.02, 1.02)
    assert live.signal_accounting(steps(), 60).layout.xaxis.range == (0.4, 60.6)


def test_a_lambda_has_one_look_in_every_figure() -> None:
    both = [f.assign(**{"lambda": 0.3}) for f in (steps("λ = 0.3"), evals("λ = 0.3"), probe("λ = 0.3"))]
    figs = [live.reward(both[0]), live.pass_at(both[1]), live.probe_gap(both[2])]
    named = [next(t for t in f.data if t.name.startswith("λ = 0.3")) for f in figs]
    (drawn,) = [a for a in paths()["arms"] if a["name"] == "λ = 0.3"]
    assert {t.marker.color or t.line.color for t in named} == {style.LAMBDAS[0.3].colour} == {drawn["colour"]}


def test_a_second_run_of_one_lambda_keeps_the_colour_and_has_another_mark() -> None:
    a, b = style.looks_of([("seed 0", 0.3), ("seed 1", 0.3)]).values()
    assert a.colour == b.colour and a.symbol != b.symbol and a.dash != b.dash


@pytest.mark.parametrize("columns", range(1, 8))
def test_panels_fill_the_figure_without_overlap(columns: int) -> None:
    for count in range(columns, 3 * columns + 1):
        layout = style.figure([], 600, {"title": {"text": "x"}}, {}, ["t"] * count, columns).layout
        for i in range(count):
            x, y = (layout["xaxis" + str(i + 1 if i else "")].domain, layout["yaxis" + str(i + 1 if i else "")].domain)
            assert 0 <= x[0] < x[1] <= 1 and 0 <= y[0] < y[1] <= 1
            if (i + 1) % columns and i + 1 < count:
                assert layout[f"xaxis{i + 2}"].domain[0] > x[1]
        titled = [bool(layout["xaxis" + str(i + 1 if i else "")].title.text) for i in range(count)]
        assert titled == [i + columns >= count for i in range(count)], "the lowest panel of each column alone"


def test_an_unusual_lambda_is_like_its_neighbour_and_open() -> None:
    assert style.lambda_look(0.32).colour == style.LAMBDAS[0.3].colour
    assert style.lambda_look(0.32).symbol == "square-open"


def test_a_hostile_run_name_is_text() -> None:
    fig = live.reward(steps('<a href="http://x">y</a>'))
    assert fig.data[0].name == '&lt;a href="http://x"&gt;y&lt;/a&gt;'
    assert "<a" not in fig.data[0].hovertemplate


def test_missing_values_stay_gaps() -> None:
    frame = steps()
    frame["loss_jsd"] = [0.2, None, 0.1]
    fig = live.loss_terms(frame)
    line = fig.data[1]
    assert line.connectgaps is False
    assert [v if v == v else None for v in line.y] == [0.2, None, 0.1]


def test_an_interval_without_an_end_is_not_drawn() -> None:
    frame = evals().query("metric == 'pass@1'").assign(low=[-np.inf, 0.05])
    fig = live.pass_at(frame)
    assert [t.name for t in fig.data] == [""], "one known interval is an error bar, no area"
    assert fig.data[0].error_y.array[0] is None or math.isnan(fig.data[0].error_y.array[0])
    assert fig.data[0].error_y.arrayminus[1] == pytest.approx(0.15)


# --- live ---------------------------------------------------------------------------------------------------


def test_signal_accounting_counts_every_prompt_once() -> None:
    frame = steps()
    fig = live.signal_accounting(frame)
    total = sum(np.array(t.y) for t in fig.data)
    assert total.tolist() == frame[[f"groups_{n}" for n in GROUPS]].sum(axis=1).tolist()
    assert list(trace(fig, "cliff, recovered: JSD signal").y) == [3, 4, 5]
    assert list(trace(fig, "other: no verdict, too long, grader").y) == [6 + 7 + 8 + 9 + 4 * s for s in (1, 2, 3)]
    assert len({t.marker.pattern.shape for t in fig.data}) == len(fig.data)


def test_a_pair_overlays_with_other_dash_and_symbol() -> None:
    fig = live.reward(pd.concat([steps("λ = 0").assign(**{"lambda": 0.0}), steps("λ = 0.3").assign(**{"lambda": 0.3})]))
    first, second = fig.data
    assert (first.name, second.name) == ("λ = 0", "λ = 0.3")
    assert first.line.dash != second.line.dash and first.marker.symbol != second.marker.symbol
    assert list(first.y) == pytest.approx([0.01, 0.02, 0.03])


def test_signal_of_a_pair_has_a_panel_each_and_one_legend() -> None:
    fig = live.signal_accounting(pd.concat([steps("a"), steps("b")]))
    assert titles(fig) == ["a", "b"]
    assert sum(bool(t.showlegend) for t in fig.data) == len(live.SIGNAL)


def test_loss_and_gradient_panels_hold_their_columns() -> None:
    fig = live.loss_terms(steps())
    assert [round(float(t.y[0]), 2) for t in fig.data] == [0.11, 0.21, 0.31]  # GRPO, JSD, floor
    both = live.loss_terms(pd.concat([steps("a"), steps("b")]))
    lines = [trace(both, f"{run} floor").line for run in "ab"]
    assert lines[0].dash == lines[1].dash == "dashdot"
    fig = live.grad_norms(steps())
    assert [round(float(t.y[0]), 2) for t in fig.data] == [0.51, 0.61, 0.41]  # of GRPO, of λ·JSD, of the sum


def test_probe_gap_tells_traces_teachers_and_the_steps_own_gap_apart() -> None:
    fig = live.probe_gap(probe(), steps())
    drifting, own = trace(fig, "drifting"), trace(fig, "drifting", 1)
    assert (drifting.xaxis, list(drifting.y)) == ("x", [1, 11])
    assert (own.xaxis, list(own.y)) == ("x2", [2, 12])
    assert list(trace(fig, "frozen").y) == [2, 12]
    assert trace(fig, "frozen").line.dash != drifting.line.dash
    estimate = trace(fig, "accepted")
    assert estimate.xaxis == "x" and estimate.y[0] == pytest.approx(0.91)
    assert not any("vLLM" in (t.name or "") for t in fig.data)
    noisy = live.probe_gap(probe(), steps().assign(parity_kl=0.003))
    assert list(trace(noisy, "vLLM floor").y) == [0.003] * 3
    assert titles(fig) == list(live.PROBE.values())
    alone = live.probe_gap(probe()[lambda rows: rows["on"] == "own"])
    assert titles(alone)[0] == "on privileged traces: no trace"


def test_the_noise_floor_of_another_sampler_lies_under_the_gap_by_position() -> None:
    fig = gap.kl_by_position(tokens(), tokens(at=1), 0.003)
    assert set(trace(fig, "vLLM floor").y) == {0.003}


def test_pass_at_draws_values_and_bands() -> None:
    fig = live.pass_at(evals("a"))
    assert titles(fig) == list(live.EVALS.values())
    assert list(trace(fig, "a", 2).y) == pytest.approx([0.3, 0.4])  # the third panel: pass@8
    assert list(trace(fig, "interval a", 2).y) == pytest.approx([0.6, 0.6, 0.3, 0.3])


# --- cliffs -------------------------------------------------------------------------------------------------


def test_the_map_places_each_prompt_with_a_regime_once_and_rings_what_luck_heals() -> None:
    rows = [("a", 4, 0, 0, "cliff"), ("b", 1, 0, 5, "mixed"), ("a", 4, 5, 3, "recovered"), ("b", 1, 5, 8, "solved")]
    frame = pd.DataFrame(rows, columns=["problem_id", "level", "step", "correct", "state"])
    frame = frame.assign(arm="λ = 0.3", n=8, source="sum", **{"lambda": 0.3})
    drawn = cliffs.cliff_map(frame, "level", (7, pd.Series({"a": 2, "b": 4})))
    assert drawn["across"] == {"title": "level", "names": ["1", "4"]} and drawn["prompts"] == [["a", 1], ["b", 0]]
    assert drawn["arms"][0]["at"] == [[[0, 8, "cliff"], [5, 8, "mixed"]], [[3, 8, "recovered"], [8, 8, "solved"]]]
    assert drawn["moments"] == ["before training", "step 5"]
    assert drawn["luck"] == {"seed": 7, "at": [[2, 8, "luck"], None]}, "b was no cliff"
    table = pd.DataFrame({"kind": ["cliff (doubtful)", "gold unparsable"], "graded": [8, 0]})
    assert cliffs.of_scan(table)["state"].tolist() == ["doubt"], "what has no regime has no place"


def test_regimes_carry_numbers_and_shares() -> None:
    counts = cliffs.count_regimes(scan()["group"])
    assert counts["prompts"].tolist() == [3, 1, 1]
    assert counts["share"].tolist() == [0.6, 0.2, 0.2]
    assert counts["low"][0] < 0.6 < counts["high"][0]
    fig = cliffs.regimes(counts)
    assert [(t.name, t.x[0]) for t in fig.data] == [("cliff", 3), ("mixed", 1), ("solved", 1)]
    assert [a.text.partition("</span> ")[2] for a in fig.layout.annotations][0] == "<b>3</b> cliff (60%)"


# --- gap ----------------------------------------------------------------------------------------------------


def test_position_means_are_over_the_traces_that_reach_the_position() -> None:
    means = gap.position_means(tokens(), tokens(at=1)).set_index(["on", "position", "when", "metric"])
    row = means.loc[("privileged", 0, "before", "kl_drifting")]
    assert row["value"] == pytest.approx(0.2) and row["n_traces"] == 2
    assert row["low"] == 0.0, "a KL has no interval below zero"
    last = means.loc[("privileged", 2, "after", "kl_frozen")]
    assert last["value"] == pytest.approx(1.8) and last["n_traces"] == 1 and math.isinf(last["high"])


def test_kl_by_position_draws_before_and_both_teachers_after() -> None:
    fig = gap.kl_by_position(tokens(), tokens(at=1))
    assert list(trace(fig, "before training").y) == pytest.approx([0.2, 0.4, 0.4])
    assert list(trace(fig, "after, frozen").y) == pytest.approx([1.4, 1.8, 1.8])
    assert trace(fig, "after, drifting", 1).xaxis == "x2"


def test_bounds_scatter_says_how_many_bounds_say_nothing() -> None:
    frame = tokens()
    facts = gap.bound_facts(frame, 500).set_index("bound")  # ln 500 = 6.2
    assert facts["vacuous"].tolist() == [3, 2] and facts["broken"].tolist() == [0, 0]
    assert facts["median_ratio"].tolist() == pytest.approx([(26.667 + 10.0) / 2, (13.333 + 5.0) / 2], rel=1e-3)
    fig = gap.bounds_scatter(frame, 500)
    lemma = fig.data[0]
    assert lemma.name == "Lemma 1: ‖δ‖²∞ / 2: 3 of 6 tokens vacuous"
    assert (list(lemma.x), list(lemma.y)) == (frame["kl_drifting"].tolist(), frame["lemma1"].tolist())
    assert lemma.text[1] == "'&lt;b&gt;'"
    assert list(fig.data[2].x) == list(fig.data[2].y), "the diagonal"
    assert fig.layout.shapes[0].y0 == pytest.approx(math.log(500))


def test_a_broken_bound_is_counted() -> None:
    frame = tokens()
    frame.loc[0, "kl_drifting"] = 0.75  # above the tighter bound of 0.5, below Lemma 1's 1.0
    assert gap.bound_facts(frame, None)["broken"].tolist() == [0, 1]
    assert gap.bound_facts(frame, None)["vacuous"].tolist() == [0, 0]


def test_a_kl_of_zero_has_a_place_on_the_log_axis() -> None:
    frame = tokens()
    frame["kl_drifting"] = 0.0
    assert set(gap.bounds_scatter(frame, 500).data[0].x) == {gap.FLOOR}


def test_mismatch_is_the_frozen_teachers_alone() -> None:
    fig = gap.mismatch_over_training(probe())
    assert list(trace(fig, "frozen").y) == [3, 13]
    assert list(trace(fig, "drifting: 0").y) == [0, 0]


# --- tradeoff -----------------------------------------------------------------------------------------------


def paths(of: pd.DataFrame | None = None) -> dict[str, Any]:
    ways = pd.concat([(points() if of is None else of).assign(moment=i) for i in (0, 1)], ignore_index=True)
    ways.loc[ways["moment"] == 0, ["x", "y"]] = (0.4, 0.5)
    return tradeoff.paths(
        ways[ways["moment"].eq(1) | ways["seed"].eq(0)], ["step 0", "step 10"], "accuracy", "coverage"
    )


def test_an_arm_is_a_path_of_means_with_its_seeds_and_their_intervals_in_one_frame() -> None:
    drawn = paths()
    grpo, hdpo = drawn["arms"]
    assert [m for way in grpo["mean"] for m in way] == pytest.approx([0.4, 0.5, 0.65, 0.55])
    assert grpo["seeds"][1]["at"] == [None, pytest.approx([0.7, 0.6, 0.6, 0.75, 0.5, 0.65])]
    assert drawn["base"] == pytest.approx([0.4, 0.5]) and drawn["moments"] == ["step 0", "step 10"]
    assert drawn["x"]["range"] == pytest.approx([0.38, 0.77]), "base, runs and intervals of all moments"
    assert (grpo["symbol"], grpo["dash"]) != (hdpo["symbol"], hdpo["dash"])


def test_a_tie_is_no_win_and_no_arm_is_hidden_by_an_equal_one() -> None:
    tied = points()[lambda p: p["seed"] == 0].assign(x=0.0, y=0.0)
    assert headlines.arms(tied, NOTHING, "step 10", "pass@1", "pass@8") == (
        "The same means at step 10 for λ = 0 and λ = 0.3: pass@8 0 %, pass@1 0 %."
    )
    half = tied.assign(x=[0.1, 0.2])
    said = headlines.arms(half, NOTHING, "step 10", "pass@1", "pass@8")
    assert "coverage λ = 0 and λ = 0.3 alike (pass@8 0 %), accuracy λ = 0.3 (pass@1 20 %)" in said
    equal = over_k()[lambda t: t["run"] != "b"].assign(value=0.5)
    assert headlines.curves(equal) == "λ = 0 and λ = 3 have the same mean at every k."
    under, over = (trace(tradeoff.pass_k_curves(equal), name) for name in ("λ = 0", "λ = 3"))
    assert under.line.width > over.line.width and under.marker.size > over.marker.size
    levels = over_k("level").assign(value=0.5)
    assert headlines.levels(levels, "pass@1").startswith("No λ gains pass@1 over λ = 0")


def test_no_base_where_none_was_measured() -> None:
    assert paths(points().assign(base_x=np.nan))["base"] is None


def test_two_arms_of_one_lambda_differ() -> None:
    both = pd.concat([points().assign(arm="λ = 0.3 · drifting"), points().assign(arm="λ = 0.3 · frozen")])
    looks = [look for _, look, _ in tradeoff.arms(both.assign(**{"lambda": 0.3}))]
    assert len({(look.symbol, look.dash) for look in looks}) == 2


def test_pass_k_is_the_mean_over_seeds_and_one_seed_has_its_interval() -> None:
    fig = tradeoff.pass_k_curves(over_k())
    two, one = trace(fig, "λ = 0"), trace(fig, "λ = 3")
    assert list(two.y) == pytest.approx([0.51, 0.52]) and two.error_y.array is None
    assert list(trace(fig, "λ = 0, seeds").y) == pytest.approx([0.41, 0.61, 0.42, 0.62])
    assert list(one.error_y.array) == pytest.approx([0.09, 0.08])


def test_differences_are_drawn_in_points() -> None:
    fig = tradeoff.difference_plane(differences(), "pass@1", "pass@8")
    mark = trace(fig, "λ = 0.3")
    assert (mark.x[0], mark.y[0]) == pytest.approx((-1.0, 15.0))
    assert mark.error_y.array[0] == pytest.approx(3.0)


def test_the_papers_layer_is_differences_and_joins_both_tables() -> None:
    fig = tradeoff.difference_plane(NOTHING, "pass@1", "pass@8", paper.paper_differences())
    line = trace(fig, "paper: frozen λ = 0.1")
    assert list(line.x) == pytest.approx([-2.15, -1.66]) and list(line.y) == pytest.approx([1.70, 1.46])
    assert list(line.marker.symbol) == ["square", "square-open"]
    assert len(fig.data) == 8, "two teachers, two λ, two scales; GRPO itself is the origin"


def test_the_papers_tables_are_the_papers() -> None:
    table = paper.paper_table().set_index(["table", "teacher", "lambda"])
    assert table.loc[("Table 1", "", 0.0), ["pass@1", "pass@4", "pass@8"]].tolist() == [0.6519, 0.7749, 0.8228]
    assert table.loc[("Table 3", "drifting", 0.01), ["pass@1", "pass@4", "pass@8"]].tolist() == [0.6499, 0.7783, 0.8213]
    # drifting λ = .01: +.0043 in Table 1, −.0010 in Table 3
    assert paper.replication_spread()["pass@8"] == pytest.approx(0.0053)


def test_what_is_left_of_the_gap_for_a_hall() -> None:
    assert headlines.gap_left(probe("λ = 0.3")) == "What is left of the gap at step 10: 1100 % with λ = 0.3."
    assert headlines.gap_left(probe(at=(0,))) == "" == headlines.gap_left(pd.DataFrame())


def test_one_difference_for_a_hall() -> None:
    row = {"metric": "pass@8", "arm": "λ = 0.3", "value": 0.2, "low": 0.1, "high": 0.3}
    words = "Against λ = 0 at step 60: pass@8 +20.0 (+10.0 to +30.0) points with λ = 0.3."
    assert headlines.one_change(pd.DataFrame([row]), "step 60") == words
    assert headlines.one_change(pd.DataFrame(), "step 60") == ""


@pytest.mark.parametrize(("after", "words"), [(-0.2, "trace goes from"), (-3.5, "trace falls, by too long a step,")])
def test_a_step_that_breaks_the_trace_is_not_praised(after: float, words: str) -> None:
    both = {"token_before": 0.016, "norm_grpo": 0.1, "mean_logp_before": -0.29, "size": 100.0}
    rows = [{**both, "lambda": lam, "token_after": 0.05, "mean_logp_after": after} for lam in (0.0, 0.3)]
    assert words in headlines.by_hand(pd.DataFrame(rows), 0.3, 100.0)
