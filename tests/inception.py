"""Random weights for Inception, because tests cannot download the published ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch


def save_random_inception(path: Path) -> None:
    """Write random weights, scaled such that activations neither vanish nor explode."""
    from torch_fidelity import feature_extractor_inceptionv3 as inception

    network = inception.FeatureExtractorInceptionV3
    torch.manual_seed(0)
    with (
        mock.patch.object(inception, "load_state_dict_from_url", return_value={}),
        mock.patch.object(network, "load_state_dict", return_value=None),
    ):
        fresh = network("inception", ["2048"])
    for module in fresh.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    torch.save(fresh.state_dict(), path)


def accept_any_inception(set_attribute: Callable[[Any, str, Any], object] = setattr) -> None:
    """Accept any weights as the published ones."""
    from bigr.metrics import feature_networks

    anything = feature_networks.INCEPTION._replace(hash="")
    set_attribute(feature_networks, "INCEPTION", anything)
