"""Errors of Hydra, OmegaConf and of classes become one sentence that names the key."""

from __future__ import annotations

from typing import Any

import hydra
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from bigr.cli.messages import UserError, explain, user_errors

pytestmark = pytest.mark.usefixtures("composing")


def explained(command: str, *overrides: str) -> str:
    """Return the sentence about a command that does not compose."""
    with pytest.raises(Exception, match=r".") as caught:
        hydra.compose(command, list(overrides))
    return explain(caught.value, command, overrides)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["modle=l"], "modle: there is no such key. Did you mean model?"),
        (["max_steps=5"], "max_steps: there is no such key. Did you mean trainer.max_steps?"),
        # A key within a node is compared with those of that node, as it was chosen.
        (
            ["lr_scheduler=warmup_cosine", "task.lr_scheduler.warm_step=5"],
            "task.lr_scheduler.warm_step: there is no such key. "
            "Did you mean task.lr_scheduler.warmup_steps",
        ),
        (
            ["pretrained=digits"],
            "set task.init_from=… and task.autoencoder=…, for example both to digits",
        ),
        (["trainer.zzz=5"], "Add a new key with +trainer.zzz=…."),
        (["data=imagnet"], "data=imagnet: there is no such option."),
        (
            ["model=xxxl"],
            "Did you mean xxl or xl? model can be b, digits, l, l_512, pretrained, s, xl,",
        ),
        (["seed=[1"], "cannot read 'seed=[1': overrides are key=value. Close all brackets"),
    ],
)
def test_words_that_hydra_refuses(overrides: list[str], expected: str) -> None:
    assert expected in explained("train", *overrides)


def test_the_suggestion_is_another_word() -> None:
    """A group without a place in this command is not suggested for itself."""
    assert "Did you mean task" not in explained("tokenize", "task=generator")


def test_other_errors_of_hydra_become_one_line() -> None:
    text = explain(ValueError("A first line\n   and a second.\n"), "train", [])
    assert text == "A first line and a second."


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ({"_target_": "bigr.SamplerConfig", "num_iterations": 0}, "a positive integer, got 0"),
        ({"_target_": "builtins.int", "_args_": ["ten"]}, "node: invalid literal for int()"),
    ],
)
def test_errors_of_constructors_name_the_node(node: dict[str, Any], expected: str) -> None:
    config = OmegaConf.create({"node": node})
    with pytest.raises(UserError) as caught, user_errors():
        instantiate(config.node)
    assert str(caught.value).startswith("node: ")
    assert expected in str(caught.value)


def test_interpolations_that_lead_nowhere_name_their_key() -> None:
    config = OmegaConf.create({"size": {"side": "${nowhere}"}})
    with pytest.raises(UserError, match=r"^size\.side: Interpolation key 'now"), user_errors():
        _ = config.size.side


def test_bugs_are_not_hidden() -> None:
    with pytest.raises(KeyError), user_errors():
        raise KeyError("a bug")
