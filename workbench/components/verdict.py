"""The panel at the end of a training: what came out, how sure, at what cost, and every cliff that was recovered or lost."""

from __future__ import annotations

from contextlib import suppress

import streamlit as st

from hdpo.errors import HdpoError
from hdpo.record.folder import Run, State
from workbench import launch, state
from workbench.components import before_after, picker, session
from workbench.data import basis, catalog, estimate, tradeoff, verdict
from workbench.figures import headlines

NOT_COVERED = "Not covered: other base models and problem sets than these; with one seed, training noise; and of twenty intervals about one misses."
PREFIXES = ("none", "nonsense")  # of the redraws
LISTED = 40  # cliffs a list, each a link


def show(members: list[Run]) -> None:
    """Nothing before all of these runs are done, or where they share no evaluated step after training."""
    steps = list(basis.moments(members, "steps"))
    if not steps or not steps[-1] or any(m.status().state is not State.DONE for m in members):
        return
    step, names = steps[-1], catalog.arm_labels(members)
    ordered = sorted(members, key=lambda m: tradeoff.settings(m)["lambda_"])
    outcomes = [o for m in ordered if (o := verdict.outcome(m, names[m.id], step)) is not None]
    if not outcomes:
        return
    drawn = catalog.runs_of(*verdict.REDRAWN)
    luck, nonsense = (verdict.by_luck(ordered[-1], outcomes[-1].cliffs, drawn, p) for p in PREFIXES)
    says = verdict.sentence(outcomes, luck, nonsense)
    changed = tradeoff.differences(members, step, (tradeoff.coverage(members), "pass@1", "cliff"))
    table, facts = tradeoff.verdicts(changed), f"step {step} · {session.facts_of(members)}"
    with st.container(border=True, key="lab-verdict"):
        st.markdown(f"#### {state.escape(says)}", anchors=False)
        if not luck:
            offer_redraw(ordered[-1])
        if cost := headlines.cost(*tradeoff.costs(members, step)):
            st.markdown(state.escape(cost))
        if not table.empty:
            st.dataframe(table, hide_index=True, key="lab-verdicts", alt="What each λ changed against λ = 0")
            st.caption(state.escape(tradeoff.detectable_words(members, step)))
        spent = [f"{o.label}: {o.tokens:,} tokens, {o.seconds:.0f} s of steps" for o in outcomes]
        st.caption(state.escape(f"{'; '.join(spent)}. {NOT_COVERED} {facts}"))
        title = "The cliffs that were recovered and lost, before and after"
        with st.expander(title, key="lab-cliffs", on_change="rerun") as box:
            if box.open:
                lists(ordered[-1], outcomes[-1])
        with st.expander("As text"):
            title = ", ".join(m.name for m in ordered)
            st.code(verdict.as_text(title, [says], outcomes, table, facts), language=None, wrap_lines=True)


def offer_redraw(run: Run) -> None:
    """A button that has the untrained model evaluated with another seed, and what became of it."""
    if (config := verdict.redraw_config(run)) is None:
        return
    begun = next((r for r in catalog.runs_of("evaluate", recorded=False) if r.load_config() == config), None)
    if begun is not None and not (status := begun.status()).state.ended:
        st.caption(f"The redraw is {status.state.value}: {status.done} of {status.total or '?'} problems.")
        return
    seconds = catalog.rows_of(run, "eval")[0].get("seconds")
    took = f" (about {estimate.words(seconds)})" if seconds else ""
    help = "Evaluates the untrained model once more with another seed, and behind a nonsense prefix as long as the solution: what it gets right of these cliffs, it got without a teacher."
    st.button(f"Measure what luck recovers{took}", key="lab_luck", help=help, on_click=redraw, args=(run,))


def redraw(run: Run) -> None:
    """Callback: the untrained model again, and behind a nonsense prefix (LoPE, arXiv 2605.05566)."""
    with state.sentences():
        for prefix in PREFIXES:
            if config := verdict.redraw_config(run, prefix):
                behind = " behind nonsense" * (prefix == "nonsense")
                launch.start_heavy(config, f"{run.name}: untrained{behind}, seed {config.seed}")


def lists(run: Run, found: verdict.Finding) -> None:
    """Each problem a link to Side by side, before and after this run where it and its partner kept a checkpoint."""
    config, texts = run.load_config(), {}
    source = picker.ProblemSource(config.data, config.evaluation.eval_split)
    with suppress(HdpoError):  # a file that is gone: the ids are left
        texts = {p.id: p.text for p in picker.read_source(source).problems}
    there = picker.source_params("side", source) | before_after.params(run)
    for column, (words, ids) in zip(st.columns(2), (("recovered", found.recovered), ("lost", found.lost)), strict=True):
        column.markdown(f"**{len(ids)} {words}** ({state.escape(found.label)})")
        for problem in ids[:LISTED]:
            label = state.escape(f"{problem}: {texts.get(problem, '')}"[:80])
            column.page_link(state.page("side_by_side"), label=label, query_params={**there, "side_problem": problem})
        if len(ids) > LISTED:
            column.caption(f"and {len(ids) - LISTED} more")
