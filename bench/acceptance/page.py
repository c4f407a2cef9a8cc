"""The page of a run, in Markdown. This module imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.acceptance.plan import Stage

GOALS = (
    ("sampling_l_8", "speedup_over_float32", 10.0, "at least"),
    ("sampling_l_64", "speedup_over_float32", 6.0, "at least"),
    ("sampling_l_64", "share_of_floor", 0.5, "at least"),
    ("training_l_compiled", "mfu", 0.5, "at least"),
    ("training_l_compiled", "speedup_over_plain_bfloat16", 2.5, "at least"),
    ("fid_50k", "minutes", 50.0, "at most"),
)
"""What was aimed at on one H100: stage, value, limit and direction."""
TINY = (
    "This run used tiny networks. It shows that the stages work, but none of its figures says "
    "anything about the speed of real networks."
)


def page(content: dict[str, Any], stages: Sequence[Stage]) -> str:
    """Return the page of a run.

    Args:
        content: what the JSON file contains: date, whether the run was tiny, and the stages.
        stages: all stages that were planned; those without a line have not been run.
    """
    lines = {line["stage"]: line for line in content["stages"]}
    machine = lines.get("machine", {}).get("values", {})
    name = machine.get("device", "an unknown device")
    parts = [f"# Acceptance run on {name}, {content['date']}", ""]
    if content["is_tiny"]:
        parts += [TINY, ""]
    states = [line["status"] for line in content["stages"]]
    parts += [
        f"{states.count('ok')} of {len(stages)} stages succeeded in {content['seconds']:.0f} s. "
        "[The acceptance run](../gpu.md) explains the stages and the names of the values.",
        "",
    ]
    open_ones = [stage for stage in stages if lines.get(stage.name, {}).get("status") != "ok"]
    if open_ones:
        parts += ["## Not run, or failed", "", "| stage | what happened |", "|---|---|"]
        parts += [f"| {s.name} | {_cell(_reason(lines.get(s.name)))} |" for s in open_ones]
        parts.append("")
    if not content["is_tiny"]:
        parts += ["## Goals", "", "| stage | value | goal | measured |", "|---|---|---|---|"]
        for stage, key, limit, direction in GOALS:
            found = lines.get(stage, {}).get("values", {}).get(key)
            parts.append(
                f"| {stage} | {key} | {direction} {limit:g} | {_verdict(found, limit, direction)} |"
            )
        parts.append("")
    for stage in stages:
        values = lines.get(stage.name, {}).get("values", {})
        if values:
            parts += [
                f"## {stage.title}",
                "",
                f"Stage `{stage.name}`, {lines[stage.name]['seconds']:.1f} s.",
                "",
            ]
            parts += ["| value | |", "|---|---|"]
            parts += [f"| {_cell(key)} | {_cell(_shown(value))} |" for key, value in values.items()]
            parts.append("")
    return "\n".join(parts)


def _reason(line: dict[str, Any] | None) -> str:
    return "not run" if line is None else f"{line['status']}: {line['error']}"


def _verdict(found: float | None, limit: float, direction: str) -> str:
    if found is None:
        return "not measured"
    is_met = found >= limit if direction == "at least" else found <= limit
    return f"{found:g}, {'reached' if is_met else 'not reached'}"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _cell(text: str) -> str:
    """Return a text that does not end the cell of a table."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ") or "none"
