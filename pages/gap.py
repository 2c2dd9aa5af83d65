"""Gap: how far the model with the solution before it is from the model without, and what training does to that."""

import pandas as pd
import streamlit as st

from hdpo.record.folder import Run
from workbench import state
from workbench.components import lens, session, stage
from workbench.components.figure import show
from workbench.components.follow import badges, follow
from workbench.data import catalog
from workbench.data import gap as gap_data
from workbench.data.glossary import meaning
from workbench.figures import gap, headlines, live

OVER = (
    "What this is: KL(P_T‖P_S), nats per token, between the model with the solution before it and the model without, on a "
    "probe set drawn once from the initial model: traces written with the solution (privileged), and the student's own. Bands "
    "are 95 % intervals over traces. What is normal: with λ > 0 it falls on both; with λ = 0 it stays, or grows while GRPO "
    "sharpens the student. A grey line is a floor: the sampler itself differs that much from the model that trains."
)
BOTH = (
    "What this is: the same gap against the drifting teacher (the current weights) and the frozen one (those of step 0); the "
    "dash-dotted line (accepted) is the gap on each step's own accepted traces, another quantity. What is normal: against the "
    "frozen teacher it falls a little less."
)
TRACE = (
    "What this is: the gap at each token of one trace before and after, against the drifting teacher, in nats; the three "
    "widest are named, the whole trace stands below. What is normal: a few tokens, at which the ground truth decides how to "
    "go on, carry most of it, and training closes these."
)
POSITIONS = (
    "What this is: the same gap by token, mean over the traces that reach the token. What is normal: a few tokens, at which "
    "the ground truth decides how to go on, carry most of it; late positions rest on few traces."
)
BOUNDS = (
    "What this is: each token's KL against Lemma 1's bound and the tighter one, from the full logits. What is normal: no "
    "mark below the diagonal, and bounds far above it: the maxima come from tokens of no probability."
)
CHANGE = "Nats per token on these traces, against this teacher; below it the change since the step chosen as before."
MISMATCH = (
    "What this is: the model-mismatch term of Proposition 1 (ii), the largest logit difference between initial and current "
    "weights on the privileged prompt. What is normal: zero at step 0, then growing: the price of a frozen teacher."
)


def draw(run: Run, others: list[Run]) -> None:
    """How far the gap came over training, where on one trace it lies, and the rest folded."""
    steps, probe = catalog.table_steps(run, "gap"), session.together(catalog.probe_frame, [run, *others])
    facts = session.facts_of([run, *others], gap_data.probe_words(catalog.probe_frame(run)))
    drawn = (
        probe[probe["on"] == "privileged"] if stage.on() and len(probe) else probe
    )  # two lines are read from the last row
    fig, says = gap.over_training(drawn, gap_data.noise_of(run)), headlines.gap(probe)
    aloud = headlines.gap_left(probe)
    show(fig, headline=says, aloud=aloud, note=OVER, facts=facts, frame=probe, key="gap-over")
    badges([run, *others])
    if steps:
        by_token(run, steps, facts)
    else:
        st.info("This run has no gap by token: it measured means alone.")
    with st.expander("Both teachers, and each step's own accepted traces", key="gap-both", on_change="rerun") as box:
        if box.open:
            fig = live.probe_gap(probe, session.together(catalog.steps_frame, [run, *others]))
            show(fig, headline=headlines.gap(probe), note=BOTH, facts=facts, frame=probe, key="gap-teachers")
    with st.expander("Price of a frozen teacher", key="gap-price", on_change="rerun") as box:
        if box.open:
            fig, says = gap.mismatch_over_training(probe), headlines.mismatch(probe)
            mismatch = probe[probe["metric"] == "mismatch"]
            show(fig, headline=says, note=MISMATCH, facts=facts, frame=mismatch, key="gap-mismatch")


def by_token(run: Run, steps: list[int], facts: str) -> None:
    """One trace token by token before and after, then all of them folded."""
    which, left, right = st.columns(3)
    before = left.selectbox("Before: step", steps, key="gap_before", **state.LINKED)
    after = right.selectbox("After: step", steps, len(steps) - 1, key="gap_after", **state.LINKED)
    old, new = catalog.gap_frame(run, before), catalog.gap_frame(run, after)
    traces, lam = gap_data.traces(old), run.load_config().objective.lambda_
    words = "Trace, the widest gap first"
    trace = which.selectbox(words, traces, key="gap_trace", **state.LINKED)
    one = gap_data.of_trace(old, new, trace)
    fig = gap.kl_of_trace(one, lam)
    says = headlines.trace(one, before, after)
    show(fig, headline=says, note=TRACE, facts=facts, frame=one, key="gap-trace")
    lens.token_strip(lens.gap_tokens(one), key="gap-strip", bars=False)
    st.caption(lens.legend("kl", "Hover a token for its numbers. The marks are those of the step before."))
    with st.expander("Every token position, mean over the traces", key="gap-positions", on_change="rerun") as box:
        if box.open:
            moved(run, before, after)
            fig = gap.kl_by_position(old, new, gap_data.noise_of(run), lam)
            table, says = gap.position_means(old, new), headlines.positions(old, new)
            show(fig, headline=says, note=POSITIONS, facts=facts, frame=table, key="gap-position")
    with st.expander("What the bounds say", key="gap-bounds-box", on_change="rerun") as box:
        if box.open:
            when = st.segmented_control(
                "Bounds at", ["before", "after"], default="after", required=True, key="gap_when", **state.LINKED
            )
            bounds(run, old if when == "before" else new, facts)


def moved(run: Run, before: int, after: int) -> None:
    with st.container(horizontal=True):
        for row in gap_data.changes(catalog.probe_frame(run), before, after).itertuples():
            moved_by = f"{row.change:+.3f}".replace("-", "−")
            colour = "inverse" if abs(row.change) >= 0.0005 else "off"
            st.metric(row.name, f"{row.after:.3f}", moved_by, colour, help=CHANGE, border=True, width=210)


def bounds(run: Run, tokens: pd.DataFrame, facts: str) -> None:
    size = gap_data.vocabulary_of(run)
    fig, says = gap.bounds_scatter(tokens, size), headlines.bounds(tokens, size)
    show(fig, headline=says, note=BOUNDS, facts=facts, frame=tokens, key="gap-bounds")
    for sentence in gap_data.bound_words(gap.bound_facts(tokens, size), size):
        st.caption(state.escape(sentence))


heading, pick, more = st.columns([1.4, 3, 3], vertical_alignment="bottom")
heading.title("Gap", help=meaning("realizability gap", "probe set", "drifting teacher", "frozen teacher", "nat"))
found = gap_data.runs_with_probe(catalog.runs_of("train"))
if not found:
    st.info(
        "No run has measured the gap yet. Start one in the λ lab: the probe set is measured at every evaluation, also at λ = 0."
    )
else:
    names = catalog.labels(found)
    with pick:
        chosen = state.linked_choice("Run", names, "gap_run", first=gap_data.first_choice(found).id)
    with more:
        beside = state.linked_choices("Draw beside it", names, "gap_beside", without=chosen)
    run = next(r for r in found if r.id == chosen)
    partners = [r for r in found if r.id in beside]
    follow([run, *partners], lambda: draw(run, partners))
    st.caption(
        "The realizability gap: how much the next token changes once the model may read the solution. Distillation can only close what is not too wide."
    )
    state.link_box("gap")
state.next_step("what λ bought and cost", "tradeoff")
