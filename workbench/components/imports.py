"""Others' rollouts, as the page Cliffs takes them in: a file named or uploaded, what it is, and the run that it becomes."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from hdpo.config import ImportConfig, ProblemConfig, knobs, replace_knobs
from hdpo.data.rollouts import Log, opened
from hdpo.grading.graders import whole as whole_grader
from workbench import forms, launch
from workbench.components import problem_set
from workbench.components.rollouts import raw_text
from workbench.data import catalog
from workbench.state import LINKED, at_once, escape, say_refusal, sentences

PAGE = "import"
SHOWN = 3  # prompts


def offer() -> None:
    """The form, folded; with a file, how it is read, its first rollouts, the command and the button."""
    with (
        st.expander("Others' rollouts", expanded="cliffs_file" in st.query_params, icon=":material/upload_file:"),
        sentences(),
    ):
        st.caption(
            "A completion log of TRL (Parquet, or its folder), a log for RLLoggingBoard, or rows with their responses. Labels "
            "make the map at once; our verdicts follow beside them."
        )
        left, right = st.columns(2)
        file = left.text_input("File or folder", key="cliffs_file", placeholder="its path", **LINKED).strip()
        most = st.get_option("server.maxUploadSize")
        words = f"Or upload one, up to {most} MB"
        right.file_uploader(words, problem_set.KINDS, key="cliffs_rollouts_file", on_change=take_upload)
        if not file:
            return
        known = {k.name: k for k in knobs(ProblemConfig())}
        with left:
            columns = forms.setting(known["columns"], "cliffs_import_")
        log = first_look(ProblemConfig(forms.whole(file), columns=columns.strip()), catalog.stamp(file))
        options = forms.with_typed(
            "cliffs_grader", list(dict.fromkeys(filter(None, (log.grader, *problem_set.GRADERS))))
        )
        grader = right.selectbox(
            "Grader", options, key="cliffs_grader", accept_new_options=True, help=forms.hint(known["grader"]), **LINKED
        )
        forms.grader_here(grader or options[0])
        values = {"problems": str(log.path), "columns": columns.strip(), "grader": whole_grader(grader or options[0])}
        config = replace_knobs(ImportConfig(), values)
        st.markdown("\n".join(f"- {escape(words)}" for words in log.told(config.data.grader)))
        for said in [several[0] for row in log.head[:SHOWN] if (several := log.of_row(row)[0])]:
            label = {True: "right", False: "wrong", None: "not labelled"}[said.right]
            raw_text(f"{problem_set.cut(said.prompt, 200)}\n→ {problem_set.cut(said.response)}\n({label})")
        st.code(launch.command_of(config), language="bash", wrap_lines=True)
        if at_once("Import", lambda: start(config), "cliffs_", "cliffs_import", type="primary"):
            start(config)
        say_refusal()


def take_upload() -> None:
    """Callback: the uploaded file is the named one."""
    if (given := st.session_state["cliffs_rollouts_file"]) is not None:
        st.session_state["cliffs_file"] = str(problem_set.uploaded(given))


def start(config: ImportConfig) -> None:
    """A started import is the chosen scan. Raises HdpoError."""
    st.session_state["cliffs_scan"] = launch.start_heavy(config, name=Path(config.data.problems).name)


@st.cache_data(show_spinner=False, max_entries=5)
def first_look(data: ProblemConfig, at: catalog.Stamp) -> Log:
    return opened(data)
