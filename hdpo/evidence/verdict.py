"""The verdict on HDPO's claims: a plan, frozen before the runs that it asks for, and what the recorded runs say of each claim.

Every number is computed from run folders that ship with the project (`assets/runs`); nothing is kept but counts.
This file is long: one function a kind of claim, beside the words of each.
"""

import csv
import hashlib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from random import Random
from statistics import mean
from typing import Any

from hdpo.assets import ASSETS
from hdpo.config import knobs
from hdpo.errors import BadInput
from hdpo.evidence import stats
from hdpo.evidence.measured import Key, Training, chosen_half, counts_of, trainings, values_of
from hdpo.evidence.stats import Estimate
from hdpo.record.files import read_json
from hdpo.record.fingerprint import comparison_words, differences
from hdpo.record.folder import ASSET_RUNS, Run, State, runs_in

PLAN = ASSETS / "plan.toml"
EVIDENCE = ASSET_RUNS / "evidence"
TOY = "toy: 0.74 M parameters, built to have cliffs"
SMALL = "small: SmolLM2, 135 M, raised on stories"
EARLY = 5  # steps in which a base is still itself
ROUNDING = 1e-4  # nats
SPLITS = 500  # of the λ = 0 runs into three against three
# Seeds of each arm that were made and looked at before the plan was written, by mix; its `known` says so.
SEEN = {
    "steep": dict.fromkeys(("0", "0.3", "3"), range(6)),
    "gentle": dict.fromkeys(("0", "0.3", "3"), range(3)),
    "stories": dict.fromkeys(("0", "1"), range(3)),
}
NO_FACTOR = ("seed", "steps", "probe_cliffs", "eval_every", "checkpoint_every", "stop_on_collapse")


@dataclass(frozen=True)
class Part:
    """One measured part of a claim, in fractions unless its unit is another. state: 'holds', 'falls' or 'open'; problems, seeds:
    what the interval stands on; at: the arms' mean step; tokens, seconds: of one training of each arm up to there; factors:
    what differs between the arms; shows: the smallest true difference that would; varies: shares of the variance; best: the
    same at each run's best step, chosen on one half of the problems and read on the other."""

    says: str
    value: float
    low: float
    high: float
    state: str
    problems: int
    unit: str = "points"
    seeds: tuple[int, ...] = ()
    at: tuple[float, ...] = ()
    tokens: tuple[float, ...] = ()
    seconds: tuple[float, ...] = ()
    factors: str = ""
    shows: float | None = None
    varies: Mapping[str, float] | None = None
    best: Estimate | None = None

    @property
    def words(self) -> str:
        """
        >>> Part("pass@8, a less b", 0.216, 0.166, 0.266, "holds", 240, seeds=(0, 1)).words
        'pass@8, a less b: +21.6 points (+16.6 to +26.6); 240 problems, 2 seeds'
        """
        if self.value != self.value:
            return self.says
        if self.unit not in ("points", "%"):
            return f"{self.says}: {self.value:.3g} {self.unit}; n = {self.problems:,}".replace("-", "−")
        form = "+.1f" if self.unit == "points" else ".0f"
        value, low, high = (f"{100 * x:{form}}".replace("-", "−") for x in (self.value, self.low, self.high))
        seeds = f", {len(self.seeds)} seeds" if self.seeds else ""
        what = "problems" if self.unit == "points" else "cliffs of all seeds (exact interval)"
        return f"{self.says}: {value} {self.unit} ({low} to {high}); {self.problems} {what}{seeds}"

    @property
    def narrows(self) -> str:
        """What the interval is wide by, and so what would narrow it."""
        if not self.varies:
            return ""
        most = max(self.varies.items(), key=lambda item: item[1])[0]
        more = {
            "problems": "more problems",
            "seeds": "more seeds",
            "samples": "more samples a problem",
            "rest": "more seeds",
        }
        shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in self.varies.items())
        return f"Its variance comes from {shares}: {more[most]} would narrow it most."


@dataclass(frozen=True)
class Claim:
    """A row of the verdict: verified, falsified, toy or inconclusive, at which scale, and what would overturn it."""

    id: str
    of: str
    section: str
    says: str
    verdict: str
    scale: str
    overturn: str
    parts: tuple[Part, ...]


def plan() -> dict[str, Any]:
    """As it was frozen, with the SHA-256 of its file."""
    raw = PLAN.read_bytes()
    return {**tomllib.loads(raw.decode()), "sha256": hashlib.sha256(raw).hexdigest()}


def shipped() -> dict[str, Any]:
    """The verdict as it was recorded. Raises BadInput where it cannot be read."""
    return dict(read_json(ASSETS / "verdict.json"))


def recorded() -> list[Run]:
    """The runs that ship: what the pages show, and what the plan asked for besides."""
    return [*runs_in(ASSET_RUNS), *runs_in(EVIDENCE)]


def verdict() -> list[Claim]:
    """Every claim of the plan by what the recorded runs measured."""
    runs = recorded()
    of = trainings(runs)
    claims = plan()["claims"]
    together = sum(len(c["parts"]) for c in claims if c.get("family"))
    own = {"no-gradient": gradients, "peek": peeks, "bounded": bounds, "redraw": against_luck, "nonsense": against_luck}
    found = []
    for c in claims:
        if measure := own.get(c["id"]):
            parts = measure(of, runs, c)
        else:
            parts = [compared(of, p, together if c.get("family") else 1) for p in c["parts"]]
        mixes = {p["mix"] for p in c.get("parts", [{"mix": "steep"}])}
        scale = SMALL if mixes == {"stories"} else TOY
        told = {k: c[k] for k in ("id", "of", "section", "says", "overturn")}
        found.append(
            Claim(**told, verdict=judged(parts, c.get("exact", False), scale), scale=scale, parts=tuple(parts))
        )
    return found


def judged(parts: Sequence[Part], exact: bool, scale: str) -> str:
    """One part that falls is enough to falsify. What holds on a toy alone is called that, unless it is no matter of size.

    >>> judged([], False, TOY), judged([Part("", 0.1, 0.0, 0.2, "holds", 240)], False, TOY)
    ('inconclusive', 'toy')
    """
    states = {p.state for p in parts}
    if "falls" in states:
        return "falsified"
    return "inconclusive" if states != {"holds"} else "verified" if exact or scale == SMALL else "toy"


def state_of(e: Estimate, holds: str, margin: float) -> str:
    """
    >>> e = Estimate(0.02, 0.01, 0.03, 240)
    >>> [state_of(e, *test) for test in (("above", 0.0), ("below", 0.0), ("above", 0.02), ("within", 0.05))]
    ['holds', 'falls', 'open', 'holds']
    """
    if holds == "within":
        apart = e.low > margin or e.high < -margin
        return "holds" if -margin < e.low and e.high < margin else "falls" if apart else "open"
    low, high = (e.low - margin, e.high - margin) if holds == "above" else (margin - e.high, margin - e.low)
    return "holds" if low > 0 else "falls" if high < 0 else "open"


def compared(of: Mapping[Key, Training], test: Mapping[str, Any], among: int) -> Part:
    """Two arms, paired by problem and seed, as this part of the plan has it; `open` where one of them is not there.

    Raises BadInput for an arm against itself, and for runs that do not measure the same."""
    mix, a, b, metric = (test[k] for k in ("mix", "arm", "against", "metric"))
    pairs = paired(of, mix, a, b)
    steps = standing([t for pair in pairs.values() for t in pair], test.get("at", "last"))
    said, wanted = f"{metric}, {spoken(a)} less {spoken(b)}", planned(mix, a) & planned(mix, b)
    if not pairs:
        return Part(f"{said}: not run", float("nan"), float("nan"), float("nan"), "open", 0)
    rows = {t: t.rows(steps[t]) for pair in pairs.values() for t in pair}
    arms = [[pair[side] for pair in pairs.values()] for side in (0, 1)]
    first, second = ([values_of(rows[t], metric) for t in arm] for arm in arms)
    e = stats.seeds_difference(first, second, among)
    k = int(metric[5]) if metric.startswith("pass@") else 1
    samples = 2 * mean(stats.sampling_variance(counts_of(some, metric), k) for some in rows.values())

    def spent(which: int) -> tuple[float, ...]:
        return tuple(mean(t.spent[steps[t]][which] for t in arm) for arm in arms)

    return Part(
        f"{said}, {'at equal tokens' if test.get('at') == 'tokens' else 'at the last step'}{note_of(mix, a, b, set(pairs), wanted)}",
        *(e.value, e.low, e.high),
        state=state_of(e, test["holds"], test["margin"]) if wanted <= set(pairs) else "open",
        problems=e.n_prompts,
        seeds=tuple(pairs),
        at=tuple(mean(steps[t] for t in arm) for arm in arms),
        tokens=spent(0),
        seconds=spent(1),
        factors=factors(arms[0][0], arms[1][0]),
        shows=stats.detectable_again(first, second, among).value,
        varies=stats.sources(first, second, samples),
        best=at_best(pairs, metric),
    )


def planned(mix: str, arm: str) -> set[int]:
    """The seeds that the plan wants of an arm, those that were there before among them."""
    return {*SEEN.get(mix, {}).get(arm, ()), *plan()["runs"].get(mix, {}).get(arm, ())}


def note_of(mix: str, a: str, b: str, there: set[int], wanted: set[int]) -> str:
    """What must be known of a part: that it is not complete, or no prediction."""
    if not wanted <= there:
        return f" ({len(there)} of {len(wanted)} planned seeds: undecided until all are there)"
    seen = there.intersection(*(SEEN.get(mix, {}).get(arm, ()) for arm in (a, b)))
    if seen == there:
        return " (seen before the plan: no prediction)"
    return f" ({len(seen)} of its seeds seen before the plan)" if seen else ""


def paired(of: Mapping[Key, Training], mix: str, a: str, b: str) -> dict[int, tuple[Training, Training]]:
    """Seed → both arms, where both are there. Raises BadInput where they are one, or did not measure the same."""
    if a == b:
        raise BadInput(f"verdict: expected two arms, found {spoken(a)} against itself. Name another one.")
    seeds = sorted(s for m, arm, s in of if (m, arm) == (mix, a) and (mix, b, s) in of)
    found = {s: (of[mix, a, s], of[mix, b, s]) for s in seeds}
    for one, other in found.values():
        prints = one.run.fingerprint, other.run.fingerprint
        ids = [[r["problem_id"] for r in t.rows(0)] for t in (one, other)]
        if any(differences(*prints)) or ids[0] != ids[1]:
            raise BadInput(f"{one.run.id} and {other.run.id}: {comparison_words(*prints)}")
    return found


def standing(arms: Sequence[Training], at: str) -> dict[Training, int]:
    """Where each stands: at the last step that all have evaluated, or at the tokens of the most frugal one's end."""
    if at == "tokens" and arms:
        least = min(t.spent[t.steps[-1]][0] for t in arms)
        return {t: t.step_at(least) for t in arms}
    common = max(set.intersection(*(set(t.steps) for t in arms)), default=0) if arms else 0
    return dict.fromkeys(arms, common)


def factors(a: Training, b: Training) -> str:
    """What differs between two arms, each setting with both values."""
    one, other = ({k.name: k.default for k in knobs(t.config) if k.name not in NO_FACTOR} for t in (a, b))
    apart = [n for n in one if one[n] != other[n]]
    words = [f"{n.rstrip('_').replace('_', ' ')} {plain(one[n])} for {plain(other[n])}" for n in apart]
    return f"{', '.join(words)}{' (more than one factor)' if len(words) > 1 else ''}"


def plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(getattr(value, "value", value))


def at_best(pairs: Mapping[int, tuple[Training, Training]], metric: str) -> Estimate | None:
    """The difference where each run stands at its best step: a maximum is flattered by its own noise, so it is chosen on one half
    of the problems and read on the other."""

    def read(t: Training) -> list[float]:
        halves = {s: [[r for r in t.rows(s) if chosen_half(r) is half] for half in (True, False)] for s in t.steps}
        best = max(halves, key=lambda s: mean(values_of(halves[s][0], metric)))
        return values_of(halves[best][1], metric)

    first, second = ([read(pair[side]) for pair in pairs.values()] for side in (0, 1))
    return stats.seeds_difference(first, second) if first else None


def gradients(of: Mapping[Key, Training], runs: Sequence[Run], claim: Mapping[str, Any]) -> list[Part]:
    """The norms of the recorded scan's groups: of cliffs the largest, of mixed prompts the smallest."""
    path = EVIDENCE / "gradients.csv"
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines())) if path.is_file() else []
    norms = {kind: [float(r["norm"]) for r in rows if r["kind"] == kind] for kind in ("cliff", "mixed")}
    if not all(norms.values()):
        return []
    most, least = max(norms["cliff"]), min(norms["mixed"])
    return [
        exactly("largest norm of ∇L_GRPO of a cliff", most, most == 0, len(norms["cliff"]), "(norm)"),
        exactly("smallest norm of ∇L_GRPO of a mixed prompt", least, least > 0, len(norms["mixed"]), "(norm)"),
    ]


def exactly(says: str, value: float, holds: bool, n: int, unit: str) -> Part:
    """What is no estimate."""
    return Part(says, value, value, value, "holds" if holds else "falls", n, unit)


def peeks(of: Mapping[Key, Training], runs: Sequence[Run], claim: Mapping[str, Any]) -> list[Part]:
    """Cliffs of the first steps with an accepted privileged rollout, of all λ = 0.3 runs."""
    arm = {s: t for (mix, name, s), t in sorted(of.items()) if (mix, name) == ("steep", "0.3")}
    rows = [r for t in arm.values() for r in t.run.metrics("step") if r["step"] <= EARLY]
    healed = sum(r["groups_cliff_recovered"] for r in rows)
    tried = healed + sum(r["groups_cliff_lost"] for r in rows)
    if not tried:
        return []
    e = Estimate(healed / tried, *stats.rate_interval(healed, tried), tried)
    words = f"cliffs of the first {EARLY} steps with one accepted of 4 privileged rollouts"
    return [Part(words, e.value, e.low, e.high, state_of(e, "above", 0.5), tried, "%", tuple(arm))]


def bounds(of: Mapping[Key, Training], runs: Sequence[Run], claim: Mapping[str, Any]) -> list[Part]:
    """The KL of every probed token, with its own bound, before and after training."""
    rows = [r for run in runs if run.kind == "train" for step in run.tables("gap") for r in run.table("gap", step)]
    if not rows:
        return []
    over = max(r["kl_drifting"] - r["lemma1"] for r in rows)
    tightest = mean(r["kl_drifting"] / r["lemma1"] for r in rows if r["lemma1"] > 0)
    words = f"largest KL less its bound over all tokens (the KL is {100 * tightest:.1f} % of the bound in the mean)"
    return [exactly(words, over, over <= ROUNDING, len(rows), "nats")]


def against_luck(of: Mapping[Key, Training], runs: Sequence[Run], claim: Mapping[str, Any]) -> list[Part]:
    """Of the cliffs of one untrained draw: how many more a training recovers than another untrained draw does."""
    test = claim["parts"][0]
    draws = untrained(runs, "none")
    controls = untrained(runs, "nonsense") if test["against"] == "nonsense" else draws[1:]
    arm = {s: t for (mix, name, s), t in sorted(of.items()) if (mix, name) == (test["mix"], test["arm"])}
    if not (draws and controls and arm):
        return []
    cliffs = {r["problem_id"] for r in draws[0] if r["correct"] == 0}

    def recovered(rows: Iterable[Mapping[str, Any]]) -> list[float]:
        return [float(r["correct"] > 0) for r in rows if r["problem_id"] in cliffs]

    luck = [mean(each) for each in zip(*map(recovered, controls), strict=True)]
    trained = [recovered(t.rows(t.steps[-1])) for t in arm.values()]
    e = stats.seeds_difference(trained, [luck] * len(trained))
    rates = f"{100 * mean(map(mean, trained)):.0f} % against {100 * mean(luck):.0f} %"
    plain, behind = (mean(values_of(rows, "pass@1")) for rows in (draws[0], controls[0]))
    weak = f"; behind it pass@1 falls from {plain:.2f} to {behind:.2f}" if test["against"] == "nonsense" else ""
    words = f"share of cliffs recovered, λ = {test['arm']} less the untrained {test['against']} ({rates}{weak})"
    return [Part(words, e.value, e.low, e.high, state_of(e, "above", 0.0), len(cliffs), seeds=tuple(arm))]


def untrained(runs: Sequence[Run], prefix: str) -> list[list[dict[str, Any]]]:
    """The evaluations of the untrained model on the steep test problems, by seed."""
    found = {}
    for run in runs:
        if run.kind == "evaluate" and run.status().state is State.DONE:
            c = run.load_config()
            if (c.data.problems, c.split, c.prompts.prefix) == ("bundled:steep", "test", prefix):
                found[c.seed] = sorted(run.table("eval", 0), key=lambda r: r["problem_id"])
    return [found[s] for s in sorted(found)]


def null(of: Mapping[Key, Training], metric: str = "pass@8") -> dict[str, Any]:
    """λ = 0 against λ = 0, where every difference is chance: of pairs of single runs, and of three against three, how many have
    an interval that leaves 0 out. The splits into three share runs: they are no independent trials."""
    arm = [t for (mix, name, _), t in sorted(of.items()) if (mix, name) == ("steep", "0")]
    values = [values_of(t.rows(t.steps[-1]), metric) for t in arm]
    draw, splits = Random(0), []
    for _ in range(SPLITS if len(values) >= 6 else 0):
        six = draw.sample(values, 6)
        splits.append(stats.seeds_difference(six[:3], six[3:]))
    singles = [stats.seeds_difference([a], [b]) for a, b in list(pairwise(values))[::2]]
    return {"runs": len(values), "metric": metric} | {
        name: {"comparisons": len(some), "false_alarms": sum(e.low > 0 or e.high < 0 for e in some)}
        for name, some in (("one_against_one", singles), ("three_against_three", splits))
    }


def arms_at_end(of: Mapping[Key, Training]) -> list[dict[str, Any]]:
    """Each arm at its last step: seeds, and means over them of each measure and of the sampled tokens."""
    found = []
    for mix, arm in dict.fromkeys((mix, arm) for mix, arm, _ in sorted(of)):
        some = [t for (m, a, _), t in of.items() if (m, a) == (mix, arm)]
        last = [t.rows(t.steps[-1]) for t in some]
        means = {k: mean(mean(values_of(rows, k)) for rows in last) for k in ("pass@1", "pass@8", "cliffs")}
        tokens = mean(t.spent[t.steps[-1]][0] for t in some)
        found.append({"mix": mix, "arm": arm, "seeds": len(some), **means, "tokens": tokens})
    return found


def counts(of: Mapping[Key, Training]) -> list[dict[str, Any]]:
    """The raw counts behind every comparison of arms: a row a mix, arm, seed, step and problem."""
    return [
        {
            "mix": mix,
            "arm": arm,
            "seed": seed,
            "step": s,
            "tokens": t.spent[s][0],
            **{k: r[k] for k in ("problem_id", "level", "n", "correct")},
        }
        for (mix, arm, seed), t in sorted(of.items())
        for s in t.steps
        for r in t.rows(s)
    ]


def spoken(arm: str) -> str:
    """
    >>> spoken("0.3"), spoken("larger-k")
    ('λ = 0.3', 'larger-k')
    """
    return f"λ = {arm}" if arm[0].isdigit() else arm


def as_json(claims: Sequence[Claim]) -> dict[str, Any]:
    """All of it, numbers to four digits; each part with its words."""
    frozen, of = plan(), trainings(recorded())
    told = {k: frozen[k] for k in ("written", "sha256", "measure", "interval", "stop", "known", "equal_tokens")}
    rows = [
        asdict(c) | {"parts": [asdict(p) | {"words": p.words, "narrows": p.narrows} for p in c.parts]} for c in claims
    ]
    return dict(
        rounded({"plan": told, "claims": rows, "null": null(of), "arms": arms_at_end(of), "trainings": len(of)})
    )


def text(found: Mapping[str, Any]) -> str:
    """`as_json` for a person."""
    lines = [
        f"{found['trainings']} trainings; plan of {found['plan']['written']}, SHA-256 {found['plan']['sha256'][:12]}…"
    ]
    for c in found["claims"]:
        lines += [f"{c['verdict'].upper()}: {c['says']} ({c['section']}; {c['scale']})"]
        lines += [f"  {p['words']}" for p in c["parts"]]
    for a in found["arms"]:
        means = ", ".join(f"{k} {a[k]:.3f}" for k in ("pass@1", "pass@8", "cliffs"))
        lines.append(f"{a['mix']}, {spoken(a['arm'])}, seeds: {a['seeds']}: {means}, {a['tokens']:,.0f} tokens")
    return "\n".join([*lines, null_words(found["null"])])


def null_words(found: Mapping[str, Any]) -> str:
    one, three = found["one_against_one"], found["three_against_three"]
    return (
        f"λ = 0 against λ = 0 ({found['runs']} seeds, {found['metric']}): {one['false_alarms']} of {one['comparisons']} pairs and "
        f"{three['false_alarms']} of {three['comparisons']} overlapping splits, three against three, leave 0 out (5 in 100 are expected)."
    )


def rounded(value: Any) -> Any:
    """
    >>> rounded({"a": (0.123456, 123456.7), "b": float("nan")})
    {'a': [0.1235, 123500.0], 'b': None}
    """
    if isinstance(value, float):
        return float(f"{value:.4g}") if value == value and abs(value) != float("inf") else None
    if isinstance(value, Mapping):
        return {k: rounded(v) for k, v in value.items()}
    return [rounded(v) for v in value] if isinstance(value, (list, tuple)) else value
