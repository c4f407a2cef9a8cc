"""BiGR as a custom pipeline of diffusers; see docs/diffusers.md.

``DiffusionPipeline.from_pretrained`` reads ``model_index.json`` beside this file, which names the
released weights, and passes its values, or those that it is given, to the constructor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput

from bigr import BiGRPipeline


class BiGRDiffusersPipeline(DiffusionPipeline):
    """Generates images of classes with BiGR.

    Args:
        weights: a repository on the hub, a folder, or the name of an installed model.
        model: size of a released generator: ``l``, ``xl`` or ``xxl``.
        code: its code: ``d24`` or ``d32``.
        resolution: its resolution: 256 or 512 pixels.
    """

    def __init__(
        self,
        weights: str = "haoosz/BiGR",
        model: str = "l",
        code: str = "d24",
        resolution: int = 256,
    ) -> None:
        super().__init__()
        self.register_to_config(weights=weights, model=model, code=code, resolution=resolution)
        # Like every pipeline of diffusers, it is on the CPU until it is moved.
        self.bigr = BiGRPipeline.from_pretrained(
            weights, model=model, code=code, resolution=resolution, device="cpu"
        )

    @property
    def labels(self) -> dict[str, int]:
        """The number of each class by its names."""
        return self.bigr.labels

    def get_label_ids(self, label: str | Sequence[str]) -> list[int]:
        """Return the numbers of classes given by name."""
        return self.bigr.get_label_ids(label)

    @property
    def device(self) -> torch.device:
        """Where the models are and compute."""
        return self.bigr.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the matrix products while sampling."""
        return self.bigr.dtype

    def to(self, *places: Any, **named: Any) -> BiGRDiffusersPipeline:
        """Move the models, or compute in another type; see :meth:`bigr.BiGRPipeline.to`."""
        named.pop("silence_dtype_warnings", None)
        self.bigr.to(*places, **named)
        return self

    def set_progress_bar_config(self, **config: Any) -> None:
        """Set the arguments of the progress bar, which are those of tqdm."""
        self.bigr.set_progress_bar_config(**config)

    def __call__(
        self, class_labels: Any = None, *, return_dict: bool = True, **arguments: Any
    ) -> ImagePipelineOutput | tuple[Any]:
        """Generate an image of each class.

        Args:
            class_labels: numbers or names of classes; None generates an image unconditionally.
            return_dict: return an object with the attribute ``images`` instead of a tuple.
            arguments: ``num_inference_steps``, ``guidance_scale``, ``generator``, ``output_type``
                and the others of calling a :class:`bigr.BiGRPipeline`.
        """
        found = self.bigr(class_labels, **arguments)
        return ImagePipelineOutput(images=found.images) if return_dict else (found.images,)
