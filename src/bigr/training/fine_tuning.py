"""Fine-tuning of a generator: where its weights start, what is trained, and what is saved."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from bigr.checkpoints.adapters import save_adapter
from bigr.checkpoints.identity import weights_sha256
from bigr.checkpoints.lora import LoRAConfig, add_adapter, plain_name, without_adapter
from bigr.models.bigr import BiGR
from bigr.schema import show
from bigr.training.initialization import (
    COPIED,
    AutoOrBool,
    ClassRows,
    Origins,
    Pretrained,
    select_trained,
    table,
)

log = logging.getLogger(__name__)


class FineTuning:
    """Lets a generator start from a trained one, and chooses the parameters that are trained.

    Without a trained generator, only ``freeze`` and ``train`` have an effect.

    Args:
        model: the new generator. A LoRA adapter is added to it, if ``lora`` has a rank.
        init_from: name or path of a trained generator to start from, see
            :func:`bigr.checkpoints.hub.find_model`. Its classes, grid and codes may differ.
        class_rows: which rows of its class table are copied, see
            :func:`bigr.training.initialization.matching_rows`.
        reset_code_layers: whether the layers that see single bits are new although they would fit;
            ``auto`` decides so if the codes are known to be those of another B-AE.
        freeze: parameters that keep their values, see
            :func:`bigr.training.initialization.select_trained`.
        train: the only parameters that are trained; empty trains all. What is new after
            ``init_from`` is trained in any case, unless ``freeze`` names it.
        lora: trains an adapter instead of the weights, if it has a rank.

    Raises:
        CheckpointError: if there is no such generator, or sizes differ that have to agree.
        ValueError: if there is no ``init_from`` for an adapter, ``class_rows`` or
            ``reset_code_layers``, or a pattern matches nothing.
    """

    def __init__(
        self,
        model: BiGR,
        *,
        init_from: str | None,
        class_rows: ClassRows,
        reset_code_layers: AutoOrBool,
        freeze: Sequence[str],
        train: Sequence[str],
        lora: LoRAConfig,
    ) -> None:
        self.model = model
        self.init_from = init_from
        self.pretrained: Pretrained | None = None
        """The generator that this one starts from; None after the start of the training."""
        self.origins: Origins = {}
        """Where the initial values of the parameters come from; empty without ``init_from``."""
        self.lora = None if lora.rank is None else lora
        """The settings of the adapter that is trained, or None."""
        self.freeze, self.train = freeze, train
        self._base_sha256: str | None = None
        if init_from is not None:
            self.pretrained = Pretrained(init_from, model.config, class_rows, reset_code_layers)
        else:
            given = {
                f"task.lora.rank={lora.rank}": self.lora is not None,
                f"task.class_rows={show(class_rows)}": class_rows != "auto",
                f"task.reset_code_layers={show(reset_code_layers)}": reset_code_layers != "auto",
            }
            for name, is_given in given.items():
                if is_given:
                    raise ValueError(f"{name} needs a trained generator: set task.init_from.")
        if self.lora is not None:
            add_adapter(model, self.lora)
        self._select_trained()

    def start(self, class_names: Sequence[str] | None, autoencoder_sha256: str | None) -> None:
        """Copy the weights of the trained generator, if there is one, and log what was copied.

        Args:
            class_names: names of the classes of the new generator, if they are known.
            autoencoder_sha256: checksum of its B-AE, if it is known.

        Raises:
            ValueError: if ``class_rows`` names a class that does not exist.
        """
        if self.pretrained is None:
            return
        origins = self.pretrained.start(self.model, class_names, autoencoder_sha256)
        if origins != self.origins:
            sizes = {plain_name(n): p.numel() for n, p in self.model.named_parameters()}
            log.info("start from %s:", self.pretrained.name)
            for line in table(origins, sizes):
                log.info("  %s", line)
        self.origins = origins
        self._select_trained()

    def release(self) -> None:
        """Free the memory of the trained generator, from which no weights are copied any more."""
        if self.pretrained is not None:
            if self.lora is not None:
                self._base_sha256 = weights_sha256(self.pretrained.generator)
            self.pretrained = None

    def sampled_model(self) -> BiGR:
        """Return the generator with its present weights, to which an adapter has been added."""
        return self.model if self.lora is None else without_adapter(self.model, self.lora.scale)

    def save_adapter(self, folder: Path) -> Path:
        """Write the trained adapter, and everything else in which the generator differs.

        Raises:
            SaveError: if a file cannot be written.
        """
        assert self.lora is not None
        assert self.init_from is not None
        assert self._base_sha256 is not None
        trained = {plain_name(n) for n, p in self.model.named_parameters() if p.requires_grad}
        place = Path(self.init_from).expanduser()
        return save_adapter(
            self.model,
            folder,
            config=self.lora,
            base=str(place.resolve()) if place.exists() else self.init_from,
            base_sha256=self._base_sha256,
            also=trained | self._changed(),
        )

    def _changed(self) -> set[str]:
        """Return the names of the parameters that are not those of the trained generator."""
        return {name for name, origin in self.origins.items() if origin != COPIED}

    def _select_trained(self) -> None:
        select_trained(
            self.model,
            freeze=self.freeze,
            train=self.train,
            always=self._changed(),
            has_adapter=self.lora is not None,
        )
