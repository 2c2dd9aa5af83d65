"""λ lab: set up a run, see what it takes and can show, start it alone or beside λ = 0, watch it."""

import json
from dataclasses import asdict, replace
from functools import partial

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from hdpo.config import SweepConfig, TrainConfig, to_json
from hdpo.data.problems import load_problems
from hdpo.data.prompts import shows_alone
from hdpo.hub import is_hub_id
from hdpo.record.folder import Run, State
from workbench import columns, forms, launch, state
from workbench.components import by_hand, fetching, picker, session, sides, stage, verdict
from workbench.data import catalog, estimate, tradeoff
from workbench.data.glossary import meaning

SET_UP, BY_HAND, WATCH = PARTS = "Set up", "By hand", "Watch"


def start(config: TrainConfig | SweepConfig) -> str:
    """Returns the run's id. Raises HdpoError."""
    return launch.start_heavy(config, name=forms.title(config))


def show(run_id: str) -> None:
    st.session_state["lab_run"], st.session_state["lab_mode"] = run_id, WATCH


def before_start(config: TrainConfig, pair: SweepConfig | None) -> None:
    """Time, memory, what can be detected; then the exact command and config."""
    alone, memory = estimate.duration(config), estimate.memory_bytes(pair or config)
    time = f"alone about {estimate.words(alone.seconds)}" if alone.seconds else "not known"
    if alone.seconds and pair:
        time += f", as {kind_of(pair)} {estimate.words(estimate.duration(pair).seconds)}"
    time += " on the machine that recorded it" if alone.elsewhere else ""
    held = f"{memory / 1e9:.1f} GB" if memory else "not known"
    st.markdown(f"**Time:** {state.escape(time)} · **Memory:** {held}")
    seeds = len(pair.seeds) if pair else 1
    st.caption(state.escape(f"{alone.source} {estimate.detectable(config, seeds)}"))
    st.code(launch.command_of(pair or config), language=None, wrap_lines=True)
    with st.expander("The config that will run"):
        if pair:
            st.caption("Alone:")
            st.code(launch.command_of(config), language=None, wrap_lines=True)
        st.code(json.dumps(to_json(config), indent=1, ensure_ascii=False), language="json", height=420)
    first_prompts(config)


def first_prompts(config: TrainConfig) -> None:
    """The first training problem's prompts exactly as the model will receive them; asked for only while open."""
    words = "The prompts of the first problem, exactly as the model receives them"
    box = st.expander(words, key="lab-prompts", on_change="rerun")
    if box.open and is_hub_id(config.data.problems):
        box.caption("Pages fetch nothing from a hub. A set that is saved as a file shows its prompts here.")
    elif box.open:
        with box, state.sentences():
            problem = load_problems(replace(config.data, limit=1), "train").problems[0]
            shown = ["student", *["privileged"] * shows_alone(problem, config.prompts.information)]
            asked = {
                "request": "prompt",
                "problem": asdict(problem),
                "prompts": to_json(config.prompts),
                "sides": shown,
            }
            sides.received(asked | picker.ModelChoice(config.model).payload())


def about_problems(config: TrainConfig, ready: bool) -> None:
    """What a file comes to, beside the buttons: the columns that are wanted, how many problems, and whether they are enough."""
    picker.few_words(config.model.model, config.data.problems)
    if not ready:
        st.info(columns.WANTED)
    elif (counted := estimate.sides(config)) is not None:
        if few := estimate.too_few(config, counted):
            st.warning(state.escape(f"{estimate.sides_words(counted)}: {few}"))
        elif not config.data.problems.startswith("bundled:"):
            st.caption(state.escape(f"{estimate.sides_words(counted)}."))


def kind_of(pair: SweepConfig) -> str:
    runs = len(pair.members())
    return "a pair" if runs == 2 else f"{runs} runs"


def set_up() -> None:
    st.query_params.pop("lab_run", None)  # or the link to this form would open a run
    recorded = st.container()
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    if stage.on():  # a hall sees the slider and its button first
        recorded = st.container()
    with left:
        lam = forms.lambda_setting("lab_")
    with right:
        buttons = st.container(horizontal=True)
        more, seeds = forms.arms_setting("lab_")
    told = st.container()
    config, ready = forms.train_form("lab_", lam)
    fetching.offer(config.model.model, "lab_fetch")
    with recorded:
        expected = session.ghost(config)
    chosen: TrainConfig | SweepConfig | None = None
    pair = forms.as_pair(config, more, seeds) if lam or more else None
    with buttons:
        words = f"Start as {kind_of(pair)}" if pair else "Start as a pair"
        help = "λ = 0 and this λ with the same seed, so the same first rollouts; they advance together."
        both = partial(forms.as_pair, config, more, seeds)
        if state.at_once(words, lambda: show(start(both())), "lab_", "lab_pair", help=help, type="primary"):
            chosen = both()
        if state.at_once("Start alone", lambda: show(start(config)), "lab_", "lab_start"):
            chosen = config
    with told, state.sentences():
        state.say_refusal()
        about_problems(config, ready)
    before_start(config, pair)
    state.link_box("lab")
    if expected:
        to_gap("what the recorded pair did to the gap", expected)
    if chosen is not None:  # a widget's value can only be set before it is drawn: from the next rerun on
        st.session_state["lab_next"] = start(chosen)
        st.rerun()


def settings_of(run: Run) -> TrainConfig:
    """Of a training, or of a sweep's members but for λ and seed."""
    config = run.load_config()
    return config.train if isinstance(config, SweepConfig) else config


def to_gap(words: str, members: list[Run]) -> None:
    """On to Gap with the run of the largest λ, and all others of its family beside it."""
    *others, run = sorted(members, key=lambda m: tradeoff.settings(m)["lambda_"])
    beside = {"gap_beside": ",".join(m.id for m in others)} if others else {}
    state.next_step(words, "gap", gap_run=run.id, **beside)


def watch(which: DeltaGenerator, beside: DeltaGenerator) -> None:
    found = catalog.runs_of("train", "sweep")
    if not found:
        st.info("No training yet. Set one up: the default session takes about two minutes.")
        return
    active = launch.running_run()  # which may be a scan
    names = catalog.labels(found)
    with which:
        run_id = state.linked_choice(
            "Run", names, "lab_run", first=active.id if active and active.id in names else session.first_run(found)
        )
    run = next(r for r in found if r.id == run_id)
    with beside:
        ids = state.linked_choices("Draw beside it", names, "lab_beside", without=run_id)
    # A sweep stands for its members.
    others = [m for r in found if r.id in ids for m in (session.family(r) if r.kind == "sweep" else [r])]
    with st.container(horizontal=True):
        view = st.segmented_control(
            "View",
            session.VIEWS,
            default=session.VIEWS[0],
            required=True,
            key="lab_panel",
            **state.LINKED,
            label_visibility="collapsed",
        )
        session.buttons(run, "lab")
        state.link_box("lab")
    session.watch(run, others, view)
    members = list({r.path: r for r in [*session.family(run), *others]}.values())
    if members:
        verdict.show(members)
        if all(m.status().state is State.DONE for m in members):
            to_gap("what it did to the gap", members)
            state.next_step("coverage against accuracy", "tradeoff")
        elif pair := session.recorded_pair(settings_of(members[0])):
            to_gap("meanwhile, what the recorded pair did to the gap", pair)


if following := st.session_state.pop("lab_next", ""):
    show(following)

heading, part, which, beside = st.columns([2.2, 4.2, 2.9, 2.9], vertical_alignment="bottom")
heading.title("λ lab", help=meaning("λ", "L_GRPO", "L_JSD", "cliff", "privileged"))
running = launch.running_run()
watching = "lab_run" in st.query_params or (running is not None and running.kind in ("train", "sweep"))
first = BY_HAND if "lab_hand" in st.query_params else WATCH if watching else SET_UP
mode = part.segmented_control("Part", PARTS, default=first, required=True, key="lab_mode", label_visibility="collapsed")
if mode == BY_HAND:
    st.query_params.pop("lab_run", None)
    st.query_params["lab_hand"] = "true"
    by_hand.show()
    state.link_box("lab")
else:
    st.query_params.pop("lab_hand", None)
if mode == WATCH:
    watch(which, beside)
elif mode == SET_UP:
    set_up()
st.caption(
    "One run of HDPO: GRPO, and on the cliffs λ times the distillation of what the model can do once it has seen the solution. λ = 0 is exactly GRPO."
)
