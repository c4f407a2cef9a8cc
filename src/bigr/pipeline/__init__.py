"""Pictures in, pictures out: :class:`bigr.BiGRPipeline`."""

from bigr.pipeline.applications import BLENDS, BiGRPipeline, Blend, Mask
from bigr.pipeline.base import ClassName, PipelineBase, to_pil

__all__ = ["BLENDS", "BiGRPipeline", "Blend", "ClassName", "Mask", "PipelineBase", "to_pil"]
