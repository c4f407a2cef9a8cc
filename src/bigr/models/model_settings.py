"""What a generator remembers besides its weights."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated, Any

from annotated_types import Len

from bigr.schema import PositiveInt, check_fields, from_dict


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """Settings that are saved with a generator, so that commands do not ask for them again.

    Each of them may be None, which means that it is unknown.

    Args:
        class_names: one name per class.
        sampler: fields of :class:`bigr.SamplerConfig`, with which images are sampled by default.
        image_size: side of the images in pixels.
        autoencoder_sha256: checksum of the weights of the B-AE whose codes the generator was
            trained on, as :func:`bigr.checkpoints.identity.weights_sha256` computes it.
    """

    class_names: tuple[str, ...] | None = None
    sampler: dict[str, Any] | None = None
    image_size: PositiveInt | None = None
    autoencoder_sha256: Annotated[str, Len(64, 64)] | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    def to_json(self) -> str:
        """Return the known settings as JSON text."""
        return json.dumps({key: value for key, value in vars(self).items() if value is not None})

    @classmethod
    def from_json(cls, text: str) -> ModelSettings:
        """Read what :meth:`to_json` returned.

        Raises:
            ValueError: if the text is not JSON, or has unknown or wrong settings.
        """
        try:
            values = json.loads(text)
        except (TypeError, RecursionError) as error:
            raise ValueError(str(error)) from error
        if not isinstance(values, dict):
            raise ValueError("they are not a mapping.")
        return from_dict(cls, values)


UNKNOWN = ModelSettings()
