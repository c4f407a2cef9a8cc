"""Proposals stay in their space, depend on their seed alone, and follow what was found."""

from __future__ import annotations

import statistics
from typing import Any

import pytest

from bigr import SamplerConfig
from bigr.evaluation.search_space import Trial, check_space, propose, with_settings

SPACE: dict[str, Any] = {
    "guidance_scale": {"low": 1.0, "high": 9.0},
    "num_iterations": {"low": 2, "high": 5},
    "guidance_levels": [[0.0, 1.0], [0.2, 0.8]],
}


def test_proposals_are_in_the_space_and_repeatable() -> None:
    found = [propose(SPACE, [], seed) for seed in range(20)]
    assert found == [propose(SPACE, [], seed) for seed in range(20)]
    assert len({one["guidance_scale"] for one in found}) == 20
    assert {one["num_iterations"] for one in found} == {2, 3, 4, 5}
    assert all(1.0 <= one["guidance_scale"] <= 9.0 for one in found)
    assert {str(one["guidance_levels"]) for one in found} == {"[0.0, 1.0]", "[0.2, 0.8]"}


def test_proposals_follow_the_scores() -> None:
    """Where a scale of 7 is best and costs nothing, the proposals are nearer to it than chance."""
    finished = []
    for number in range(40):
        settings = propose(SPACE, [], number)
        score = abs(settings["guidance_scale"] - 7.0)
        finished.append(Trial(number, settings, 1.0, score, score if number % 3 else None))
    found = [propose(SPACE, finished, 100 + seed)["guidance_scale"] for seed in range(8)]
    before = statistics.fmean(abs(t.settings["guidance_scale"] - 7.0) for t in finished)
    assert statistics.fmean(abs(scale - 7.0) for scale in found) < 0.6 * before


def test_other_spaces_are_refused() -> None:
    with pytest.raises(ValueError, match=r"evaluation\.space\.temperature=1\.0: give a setting"):
        check_space({"temperature": 1.0})
    with pytest.raises(ValueError, match=r"evaluation\.space\.order=.*: give a setting"):
        check_space({"order": {"low": 1}})


def test_settings_are_checked_like_those_of_a_file() -> None:
    with pytest.raises(ValueError, match="guidance_scale"):
        with_settings(SamplerConfig(), {"guidance_scale": -1.0})
    changed = with_settings(SamplerConfig(), {"corrector_interval": [0.0, 0.5]})
    assert changed.corrector_interval == (0.0, 0.5)
