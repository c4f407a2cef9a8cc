"""What the acceptance run does, most important first. This module imports nothing heavy."""

from __future__ import annotations

from typing import NamedTuple


class Stage(NamedTuple):
    """One stage of the run."""

    name: str
    seconds: float
    """The stage is ended after so many seconds."""
    function: str
    """``module:function``, called with a :class:`bench.acceptance.context.Context`."""
    title: str
    """What the stage answers, for the page."""


def _own(name: str, seconds: float, function: str, title: str) -> Stage:
    return Stage(name, seconds, f"bench.acceptance.{function}", title)


STAGES = (
    _own("machine", 30, "machine:describe", "The machine and its ceilings"),
    _own("conformance", 30, "correctness:conformance", "Float32 against the released code"),
    _own("seeds", 30, "correctness:seeds", "The same seeds on this device and on the CPU"),
    _own("graphs", 60, "correctness:graphs", "Recorded against eager denoising chains"),
    _own("marginals", 60, "correctness:marginals", "Frequencies of bits in bfloat16 and float8"),
    _own("sampling_l_8", 60, "sampling:l_8", "Sampling with L, batch size 8"),
    _own("sampling_l_64", 60, "sampling:l_64", "Sampling with L, batch size 64"),
    _own("training_l", 60, "training:l_eager", "A training step of L, eager"),
    _own("training_l_compiled", 120, "training:l_compiled", "A training step of L, compiled"),
    _own("sampling_l_1", 40, "sampling:l_1", "Sampling with L, batch size 1"),
    _own("autoencoder", 50, "networks:autoencoder", "Encoding, decoding and training a B-AE"),
    _own("inception", 30, "networks:inception", "Inception features"),
    _own("fid_50k", 10, "networks:fid_50k", "FID of L with 50,000 samples, projected"),
    _own("sampling_xxl", 50, "sampling:xxl", "Sampling with XXL, batch size 16"),
    _own("sampling_l_512", 50, "sampling:l_512", "Sampling with L at 512x512, batch size 8"),
    _own("training_xl", 40, "training:xl_eager", "A training step of XL, eager"),
    _own("training_xxl", 50, "training:xxl_eager", "A training step of XXL, eager"),
    _own("profile", 60, "profiling:slowest", "Profile of the slowest stage"),
    _own("trainer", 50, "training:trainer", "L in Lightning's Trainer, with logging and EMA"),
    _own(
        "sampling_variants", 90, "sampling:variants", "Ways to run the sampler of L at batch size 8"
    ),
    _own("training_l_by_layer", 60, "training:l_by_layer", "L, each layer compiled by itself"),
    _own("training_xl_compiled", 150, "training:xl_compiled", "A training step of XL, compiled"),
    _own("training_xxl_compiled", 180, "training:xxl_compiled", "A training step of XXL, compiled"),
)
