"""The text of a report."""

from __future__ import annotations

import dataclasses

from torch import Tensor

from bigr import SamplerConfig
from bigr.evaluation.report import Report
from bigr.evaluation.report_text import (
    latex,
    latex_row,
    markdown_table,
    report_markdown,
    sampler_text,
    scores,
    summary,
    used_columns,
)
from bigr.sampling.orders import SamplingOrder

REPORT = Report(
    {},
    rows=[("FID-5k", "2.5", "", "2.4 to 2.6", "0.1"), ("IS-5k", "300", "", "", "")],
    columns=("measured", "target", "95% interval", "spread"),
    setting="5,000 images were compared.",
    notes=["Few images."],
    captions={"samples.png": "Some images"},
)


def test_columns_without_entries_are_left_out() -> None:
    assert used_columns(REPORT.columns, REPORT.rows) == (
        ["metric", "measured", "95% interval", "spread"],
        [["FID-5k", "2.5", "2.4 to 2.6", "0.1"], ["IS-5k", "300", "", ""]],
    )
    assert used_columns(("measured",), []) == (["metric"], [])


def test_a_table_in_markdown() -> None:
    assert (
        markdown_table(["a", "b"], [["x|y", "1"]]) == "| a | b |\n| --- | ---: |\n| x\\|y | 1 |\n"
    )


def test_special_characters_of_latex() -> None:
    assert latex("50% of a_b & {c} #1 $2 ~^\\") == (
        r"50\% of a\_b \& \{c\} \#1 \$2 \textasciitilde{}\textasciicircum{}\textbackslash{}"
    )
    row = latex_row("my_model", {"FID": "2.5 ± 0.1", "accuracy": "97%"})
    assert row.splitlines() == ["%  & FID & accuracy", r"my\_model & 2.5 $\pm$ 0.1 & 97\% \\"]


def test_scores_have_their_spread_and_interval() -> None:
    assert scores(REPORT) == {"FID-5k": "2.5 ± 0.1 [2.4, 2.6]", "IS-5k": "300"}
    chosen = dataclasses.replace(REPORT, headline={"best": "1"})
    assert scores(chosen) == {"best": "1"}
    assert (
        summary(REPORT) == "5,000 images were compared. FID-5k: 2.5 ± 0.1 [2.4, 2.6]; IS-5k: 300."
    )
    many = Report({}, rows=[(f"layer {number}", "1") for number in range(14)])
    assert summary(many).endswith("layer 11: 1; and 2 more.")


def test_everything_is_in_the_report() -> None:
    text = report_markdown(REPORT, "a_model", ["samples.png", "samples.npz"])
    lines = text.splitlines()
    assert lines[0] == "# Evaluation of a_model"
    for part in (
        "| FID-5k | 2.5 | 2.4 to 2.6 | 0.1 |",
        "Few images.",
        summary(REPORT),
        "| a_model | 2.5 ± 0.1 [2.4, 2.6] | 300 |",
        r"a\_model & 2.5 $\pm$ 0.1 [2.4, 2.6] & 300 \\",
        "![Samples](samples.png)",
        "Some images.",
        "- [metrics.json](metrics.json): the same as data",
        "- [samples.npz](samples.npz)",
    ):
        assert part in lines
    assert "|" not in report_markdown(Report({}), "nothing", [])


class Sideways(SamplingOrder):
    """Named in the text."""

    def scores(self, is_masked: Tensor, uniforms: Tensor) -> Tensor:
        return uniforms


def test_the_settings_of_a_sampler() -> None:
    assert sampler_text(SamplerConfig()) == (
        "guidance scale 2.5, iterations 20, gumbel temperature 0.17, denoise steps 100"
    )
    changed = SamplerConfig(num_iterations=8, mask_schedule="linear", order=Sideways())
    assert sampler_text(changed) == (
        "guidance scale 2.5, iterations 8, gumbel temperature 0.17, denoise steps 100, "
        "mask schedule linear, order Sideways"
    )
