"""The verdict as one table of HTML: in a page, and in a file of its own that asks nobody for anything."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench.figures.style import CLIFF, GREY, MIXED, RECOVERED

MARKS = {  # of a verdict: its mark, and what the word means
    "verified": ("✔", RECOVERED.colour, "holds, and is no matter of the model's size, or was seen on a real model"),
    "toy": (
        "◐",
        MIXED.colour,
        "holds on a model of 0.74 M parameters that was built to have cliffs, and on no other so far",
    ),
    "falsified": ("✖", CLIFF.colour, "the interval lies wholly on the other side"),
    "inconclusive": ("?", GREY.colour, "the interval does not decide, or the runs are not there"),
}
OF = {
    "paper": "Claims of the paper",
    "ours": "Controls of our own",
    "others": "Claims of others about this kind of training",
}
MOST = 0.3  # of a difference, where its picture ends
CSS = Path(__file__).with_name("claims.css")


def headline(found: Mapping[str, Any]) -> str:
    """
    >>> headline({"claims": [{"verdict": "toy"}, {"verdict": "toy"}, {"verdict": "falsified"}]})
    'Of 3 claims 0 are verified, 2 hold on a toy, 1 is falsified and 0 are inconclusive.'
    """
    n = Counter(c["verdict"] for c in found["claims"])
    verified, falsified, open_ = (
        f"{n[k]} {'is' if n[k] == 1 else 'are'} {k}" for k in ("verified", "falsified", "inconclusive")
    )
    toy = f"{n['toy']} {'holds' if n['toy'] == 1 else 'hold'} on a toy"
    return f"Of {len(found['claims'])} claims {verified}, {toy}, {falsified} and {open_}."


def table(claims: Sequence[Mapping[str, Any]]) -> str:
    """The claims by whose they are, each with its mark, its measured parts and, folded, what a careful reader asks."""
    parts = []
    for of, title in OF.items():
        if rows := [row(c) for c in claims if c["of"] == of]:
            parts.append(f"<h3>{title}</h3>{''.join(rows)}")
    return f'<div class="claims">{"".join(parts)}</div>'


def row(c: Mapping[str, Any]) -> str:
    mark, colour, _ = MARKS[c["verdict"]]
    measured = "".join(part(p) for p in c["parts"]) or "<p>not measured yet</p>"
    asked = "".join(f"<li>{html.escape(words)}</li>" for words in details(c))
    return (
        f'<section><p class="mark"><span style="color:{colour}" aria-hidden="true">{mark}</span> {c["verdict"]}</p>'
        f"<div><p><b>{html.escape(c['says'])}</b></p>{measured}"
        f'<p class="note">{html.escape(c["section"])} · {html.escape(c["scale"])}</p>'
        f"<details><summary>Seeds, cost, what would overturn it</summary><ul>{asked}</ul></details></div></section>"
    )


def part(p: Mapping[str, Any]) -> str:
    picture = interval(p) if p["unit"] == "points" and p["value"] is not None else ""
    return f'<div class="part">{picture}<p>{html.escape(p["words"])}</p></div>'


def interval(p: Mapping[str, Any]) -> str:
    """The difference with its interval about 0, from −30 to +30 points; what goes on beyond that ends in an arrow. In boxes: a
    page lets no SVG through."""

    def percent(value: float) -> float:
        return 50 * (1 + max(-MOST, min(MOST, value)) / MOST)

    low, value, high = percent(p["low"]), percent(p["value"]), percent(p["high"])
    colour = {"holds": RECOVERED, "falls": CLIFF}.get(p["state"], GREY).colour
    mark = f'<i class="value" style="left:{value:.1f}%;background:{colour}"></i>' * (abs(p["value"]) <= MOST)
    beyond = "".join(
        f'<i class="beyond" style="{side}:-2px">{arrow}</i>'
        for side, arrow, is_so in (("left", "◂", p["low"] < -MOST), ("right", "▸", p["high"] > MOST))
        if is_so
    )
    return (
        f'<div class="interval" aria-hidden="true"><i class="zero"></i>'
        f'<i class="reach" style="left:{low:.1f}%;width:{high - low:.1f}%;background:{colour}"></i>'
        f"{mark}{beyond}</div>"
    )


def details(c: Mapping[str, Any]) -> list[str]:
    """What a careful reader asks of each part, a sentence each; first what would overturn the claim."""
    found = [f"It would be overturned by {c['overturn']}."]
    for p in c["parts"]:
        if p["at"]:
            each = zip(p["at"], p["tokens"], p["seconds"], strict=True)
            first, second = (f"step {at:.0f}, {tokens:,.0f} tokens, {seconds:.0f} s" for at, tokens, seconds in each)
            seeds = ", ".join(map(str, p["seeds"]))
            found.append(f"{p['says']}: seeds {seeds}; a training stood at {first}, against {second}.")
            found.append(f"What differs: {p['factors']}.")
        if p["shows"]:
            found.append(f"A true difference of {100 * p['shows']:.1f} points would show here 80 times in 100.")
        if p["narrows"]:
            found.append(p["narrows"])
        if best := p["best"]:
            ends = f"{100 * best['value']:+.1f} points ({100 * best['low']:+.1f} to {100 * best['high']:+.1f})"
            found.append(f"At each run's best step, chosen on one half of the problems and read on the other: {ends}.")
    return found


def document(found: Mapping[str, Any], words: str) -> str:
    """The verdict as one HTML file. words: the null comparison, in a sentence."""
    frozen = found["plan"]
    told = "".join(
        f"<li>{html.escape(frozen[k])}</li>" for k in ("measure", "interval", "equal_tokens", "stop", "known")
    )
    meaning = "".join(f"<li>{mark} {word}: {says}</li>" for word, (mark, _, says) in MARKS.items())
    title = "Verdict on HDPO (arXiv 2603.23871)"
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'><title>{title}</title>"
        f"<style>{CSS.read_text(encoding='utf-8')}\nbody {{ font: 1rem/1.5 system-ui, sans-serif; margin: 1rem auto; max-width: 70rem; padding: 0 1rem; color-scheme: light dark; }}</style>"
        f"<h1>{title}</h1><h2>{html.escape(headline(found))}</h2><ul>{meaning}</ul>{table(found['claims'])}"
        f"<h3>Chance alone</h3><p>{html.escape(words)}</p><h3>The plan, frozen on {frozen['written']}</h3><ul>{told}</ul>"
        f"<p>SHA-256 of assets/plan.toml: <code>{frozen['sha256']}</code>. Every number again: <code>python -m hdpo verdict</code></p></html>"
    )
