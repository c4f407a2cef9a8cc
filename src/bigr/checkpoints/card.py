"""The model card (README) that is saved with the weights of a pipeline."""

from __future__ import annotations

import json
from dataclasses import asdict

from bigr.models.config import BiGRConfig, BinaryAutoencoderConfig
from bigr.models.model_settings import ModelSettings

CARD = """---
library_name: bigr-lightning
pipeline_tag: unconditional-image-generation
tags: [image-generation, binary-latent, inpainting, bigr]
---

# BiGR, {size}x{size} pixels

An image generator over binary latent codes (BiGR, [arXiv 2410.14672](https://arxiv.org/abs/2410.14672)):
{grid}x{grid} tokens of {bits} bits, {classes} classes. It generates, inpaints, outpaints, edits,
interpolates and enriches images:

```python
from bigr import BiGRPipeline

pipeline = BiGRPipeline.from_pretrained("this repository or folder")
pipeline.generate([0, 1, 2])[0].save("picture.png")
pipeline.inpaint("picture.png", [[{quarter}, {quarter}, {half}, {half}]])[0].save("inpainted.png")
```

Generator:

```json
{generator}
```

Binary autoencoder:

```json
{autoencoder}
```

Settings:

```json
{settings}
```

Add here which data the model was trained on, and under which licence it may be used.
"""


def model_card(
    generator: BiGRConfig, autoencoder: BinaryAutoencoderConfig, settings: ModelSettings
) -> str:
    """Return Markdown text with the configurations of both models and an example of their use."""
    known = json.loads(settings.to_json())
    return CARD.format(
        size=autoencoder.image_size,
        quarter=autoencoder.image_size // 4,
        half=autoencoder.image_size // 2,
        grid=generator.grid_size,
        bits=generator.code_dim,
        classes=generator.num_classes,
        generator=json.dumps(asdict(generator), indent=2),
        autoencoder=json.dumps(asdict(autoencoder), indent=2),
        settings=json.dumps(known, indent=2, ensure_ascii=False),
    )
