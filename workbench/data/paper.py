"""The paper's Tables 1 and 3, as differences to its own GRPO row: a layer over ours, never a line of ours.

Best over training of one run a row, so a maximum over about 200 noisy evaluations. Table 3 repeats Table 1 on other
hardware: how far the two disagree is the only replication spread that the paper gives.
"""

from __future__ import annotations

import json

import pandas as pd

from hdpo.assets import ASSETS

TABLES = ASSETS / "paper_tables.json"
METRICS = ["pass@1", "pass@4", "pass@8"]


def paper_table() -> pd.DataFrame:
    """Tables 1 and 3 of the paper, a row a method: table, hardware, method, teacher, lambda, pass@1, pass@4, pass@8."""
    tables = json.loads(TABLES.read_text(encoding="utf-8"))["tables"]
    return pd.DataFrame([{"table": t["table"], "hardware": t["hardware"], **row} for t in tables for row in t["rows"]])


def paper_differences() -> pd.DataFrame:
    """The paper's rows minus the GRPO row of the same table: table, hardware, label, lambda, and the three differences."""
    paper = paper_table()
    parts = []
    for _, rows in paper.groupby("table", sort=False):
        base = rows[rows["method"] == "GRPO"].iloc[0]
        minus = rows[METRICS] - base[METRICS].astype(float)
        label = rows["teacher"] + rows["lambda"].map(" λ = {:g}".format)
        parts.append(rows[["table", "hardware", "lambda"]].assign(label=label, **minus)[rows["method"] != "GRPO"])
    return pd.concat(parts, ignore_index=True)


def replication_spread() -> dict[str, float]:
    """metric → how far the paper's two tables disagree about a difference, at most.

    >>> round(100 * replication_spread()["pass@8"], 2)
    0.53
    """
    wide = paper_differences().pivot(index="label", columns="table")
    return {m: float((wide[m]["Table 1"] - wide[m]["Table 3"]).abs().max()) for m in ("pass@1", "pass@4", "pass@8")}


def spread_words() -> str:
    """What the layer's lines mean, in a sentence."""
    spread = replication_spread()
    words = ", ".join(f"{metric} by up to {100 * spread[metric]:.1f}" for metric in METRICS)
    return (
        f"Differences to the paper's GRPO row, best over training. Its two tables disagree about them: {words} points."
    )


def beside(differences: pd.DataFrame, theirs: pd.DataFrame) -> pd.DataFrame:
    """Our differences and the paper's in one long table, as they are drawn: arm, metric, value, and where it comes from."""
    long = theirs.melt(["table", "label", "lambda"], METRICS, "metric").rename(columns={"label": "arm"})
    long = long.assign(source="paper, " + long.pop("table"))
    return pd.concat([differences.assign(source="here"), long], ignore_index=True)
