"""Settings that follow from the model and the adapter where a person chose none: one place for flags and forms."""

from collections.abc import Collection, Mapping
from typing import Any

from hdpo.model.adapter import adapter_folder, read_adapter
from hdpo.model.find import known
from hdpo.presets import SHIPPED, brought


def following(chosen: Mapping[str, Any], names: Collection[str]) -> tuple[dict[str, Any], list[str]]:
    """(further settings, a sentence for each group of them) of what was chosen; names: the settings that there are.
    Raises BadInput for an adapter that is none."""
    found: dict[str, Any] = {}
    told: list[str] = []
    if chosen.get("adapter"):
        adapter = read_adapter(adapter_folder(chosen["adapter"]))
        found |= {k: v for k, v in adapter.settings.items() if k not in chosen}
        told.append(f"Adapter {adapter.folder.name}: {words(found) or 'settings as given'}.")
        found["adapter"] = str(adapter.folder)
    model, revision = chosen.get("model", "bundled"), chosen.get("revision", "")
    if model == "bundled":
        return found, told
    facts, own = known(model, revision), brought(model)
    if model not in SHIPPED and facts and facts.context:
        own = {**own, "max_new_tokens": min(facts.context // 2, own["max_new_tokens"])}
    if {"student", "privileged"} & chosen.keys():
        own = {k: v for k, v in own.items() if k not in ("student", "privileged")}
    fresh = {k: v for k, v in own.items() if k in names and k not in chosen}
    if fresh:
        wording = ["the wording of instruct models (--student, --privileged)"] if "student" in fresh else []
        rest = {k: v for k, v in fresh.items() if k not in ("student", "privileged")}
        told.append(f"The model is not the bundled one: {', '.join([*wording, *([words(rest)] if rest else [])])}.")
    if facts and "strftime_now" in facts.template and not chosen.get("chat_template"):
        told.append("Its chat template writes today's date: prompts here say 1 January 2026 on every day.")
    return found | fresh, told


def words(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"--{name.replace('_', '-')} {value}" for name, value in settings.items())
