"""The model card that is saved with a pipeline."""

from __future__ import annotations

import json
import re

from bigr.checkpoints.card import model_card
from bigr.models.model_settings import ModelSettings
from tests.models import tiny_autoencoder, tiny_generator


def test_configurations_and_settings() -> None:
    """Each is a block of JSON, in this order."""
    settings = ModelSettings(class_names=("größer", "b", "c"), sampler={"order": "random"})
    generator, autoencoder = tiny_generator().config, tiny_autoencoder().config
    card = model_card(generator, autoencoder, settings)
    blocks = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", card, flags=re.DOTALL)]
    assert blocks[0]["code_dim"] == generator.code_dim
    assert blocks[1]["image_size"] == autoencoder.image_size
    assert blocks[2] == {"class_names": ["größer", "b", "c"], "sampler": {"order": "random"}}
    assert "größer" in card
    assert f"{autoencoder.image_size}x{autoencoder.image_size} pixels" in card
