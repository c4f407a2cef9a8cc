"""Images in, images out: :class:`bigr.BiGRPipeline`."""

from bigr.pipeline.applications import BiGRPipeline
from bigr.pipeline.base import ClassName
from bigr.pipeline.generation import GeneratedPicture, PipelineOutput
from bigr.pipeline.repainting import Blend, Mask, Repainted

__all__ = [
    "BiGRPipeline",
    "Blend",
    "ClassName",
    "GeneratedPicture",
    "Mask",
    "PipelineOutput",
    "Repainted",
]
