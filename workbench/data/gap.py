"""What the page Gap reads beside its figures: runs with a probe set, and how far the gap moved. No Streamlit here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from hdpo.config import TrainConfig
from hdpo.model.find import known
from hdpo.record.folder import Run
from workbench.data import catalog, tradeoff

NAMES = {
    ("privileged", "kl_drifting"): "KL privileged, drifting",
    ("privileged", "kl_frozen"): "KL privileged, frozen",
    ("own", "kl_drifting"): "KL own, drifting",
    ("own", "kl_frozen"): "KL own, frozen",
}


def runs_with_probe(runs: Iterable[Run]) -> list[Run]:
    """Those that measured the fixed probe set at least once."""
    return [run for run in runs if catalog.rows_of(run, "probe")]


def first_choice(runs: Sequence[Run]) -> Run:
    """The newest own run, or its partner with λ > 0; without one, the first recorded run with the default λ and problem mix."""
    usual, own = TrainConfig(), [r for r in runs if not r.recorded]
    if own and not tradeoff.settings(own[0])["lambda_"]:
        treated = [r for r in own if tradeoff.settings(r)["lambda_"]]
        return next((run for run, _ in tradeoff.paired_runs(treated, own[:1]).values()), own[0])
    for run in runs:
        config = run.load_config()
        same = (config.data.problems, config.objective.lambda_) == (usual.data.problems, usual.objective.lambda_)
        if not run.recorded or same:
            return run
    return runs[0]


def changes(probe: pd.DataFrame, before: int, after: int) -> pd.DataFrame:
    """KL(P_T‖P_S) on the probe set at two steps, nats per token: name, before, after, change, low and high of after."""
    rows = []
    for (on, metric), name in NAMES.items():
        some = probe[(probe["on"] == on) & (probe["metric"] == metric)].set_index("step")
        if before in some.index and after in some.index:
            old, new = some.loc[before], some.loc[after]
            ends = {"before": old["value"], "after": new["value"], "change": new["value"] - old["value"]}
            rows.append({"name": name, **ends, "low": new["low"], "high": new["high"]})
    return pd.DataFrame(rows)


def traces(gap: pd.DataFrame) -> list[int]:
    """The numbers of the traces, privileged before own, the widest mean gap first. gap: `catalog.gap_frame`."""
    means = gap.groupby(["on", "trace"])["kl_drifting"].mean().reset_index()
    means["own"] = means["on"] == "own"
    return [int(t) for t in means.sort_values(["own", "kl_drifting"], ascending=[True, False])["trace"]]


def of_trace(before: pd.DataFrame, after: pd.DataFrame, trace: int) -> pd.DataFrame:
    """One trace, a row a token: on, position, token, before, after (nats, drifting teacher)."""
    old, new = (f[f["trace"] == trace].sort_values("position").reset_index(drop=True) for f in (before, after))
    return old[["on", "position", "token"]].assign(before=old["kl_drifting"], after=new["kl_drifting"])


def probe_words(probe: pd.DataFrame) -> str:
    """How much the probe set holds: traces and tokens of either kind."""
    kinds = probe.sort_values("step").drop_duplicates("on")
    return "probe set " + ", ".join(
        f"{int(k.n_traces)} {k.on} traces of {int(k.n_tokens)} tokens" for k in kinds.itertuples()
    )


def noise_of(run: Run) -> float | None:
    """KL(vLLM ‖ trained model), nats a token, as last checked; None where the model that trains drew the rollouts."""
    checked = catalog.steps_frame(run)["parity_kl"].dropna()
    return float(checked.iloc[-1]) if len(checked) else None


def vocabulary_of(run: Run) -> int | None:
    """V of the model that the run trained, None where it is gone."""
    model = run.load_config().model
    found = known(model.model, model.revision)
    return found.vocabulary if found else None


def bound_words(facts: pd.DataFrame, vocabulary: int | None) -> list[str]:
    """One sentence a bound: how loose, how often it says nothing, and whether any token breaks it."""
    words = []
    for f in facts.itertuples():
        loose = (
            f"half of the tokens have a bound more than {f.median_ratio:,.0f} times their KL"
            if f.median_ratio == f.median_ratio
            else "no token has a KL to compare with"
        )
        empty = f", {f.vacuous} of {f.tokens} lie above ln V and say nothing" if vocabulary else ""
        broken = "none is broken" if f.broken == 0 else f"{f.broken} are broken, which no theory allows: report it"
        words.append(f"{f.bound}: {loose}{empty}; {broken}.")
    return words
