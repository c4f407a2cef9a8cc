"""What a generator remembers beside its weights."""

from __future__ import annotations

import pytest

from bigr.models.model_settings import ModelSettings


def test_round_trip() -> None:
    settings = ModelSettings(class_names=("a", "ß"), sampler={"order": "random"}, image_size=16)
    assert ModelSettings.from_json(settings.to_json()) == settings
    assert ModelSettings().to_json() == "{}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "not a mapping"),
        ("{", "Expecting property name"),
        (None, "JSON object must be str"),
        ('{"image_size": 0}', "image_size must be a positive integer"),
        ('{"autoencoder_sha256": "1234"}', "autoencoder_sha256 must be"),
        ('{"image_sze": 16}', "image_sze"),
    ],
)
def test_wrong_text(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelSettings.from_json(text)
