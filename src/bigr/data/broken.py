"""Images that cannot be decoded: each is reported once, and too many of them end the run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

SHOWN = 20


class BrokenImage(NamedTuple):
    """An image that was skipped or replaced by another one."""

    name: str
    reason: str


class TooManyBrokenError(ValueError):
    """The share of broken images exceeds the limit."""


class BrokenImages:
    """Counts broken images and writes each of them to a report once, also after a restart.

    Args:
        total: number of images in the dataset.
        max_share: share of broken images above which the run ends.
        report: file with a line ``<name>: <reason>`` for each image, or None. Several processes may
            write to the same report.

    Raises:
        ValueError: if ``max_share`` is not between 0 and 1.
    """

    def __init__(self, total: int, max_share: float, report: Path | None = None) -> None:
        if not 0 <= max_share <= 1:
            raise ValueError(f"data.max_broken_share={max_share} must be between 0 and 1.")
        self.total = total
        self.max_share = max_share
        self.report = report
        self.reasons: dict[str, str] = {}

    def add(self, images: Iterable[BrokenImage]) -> list[BrokenImage]:
        """Record broken images and return those that were not known yet.

        Raises:
            TooManyBrokenError: if there are too many; the message names some of them.
        """
        unknown = [image for image in images if image.name not in self.reasons]
        if not unknown:
            return []
        self._read_report()  # other processes and earlier runs also write to it
        fresh = [
            BrokenImage(*item) for item in dict(unknown).items() if item[0] not in self.reasons
        ]
        self.reasons.update(fresh)
        if self.report is not None and fresh:
            self.report.parent.mkdir(parents=True, exist_ok=True)
            with self.report.open("a") as file:
                file.write("".join(f"{name}: {reason}\n" for name, reason in fresh))
        self.check()
        return fresh

    def check(self) -> None:
        """Raise :class:`TooManyBrokenError` if the share of broken images exceeds the limit."""
        count = len(self.reasons)
        if count <= self.max_share * self.total:
            return
        lines = [f"  {name}: {reason}" for name, reason in list(self.reasons.items())[:SHOWN]]
        if count > SHOWN:
            where = f" in {self.report}" if self.report else ""
            lines.append(f"  … and {count - SHOWN} more{where}")
        verb = "is" if count == 1 else "are"
        raise TooManyBrokenError(
            f"{count} of {self.total} images {verb} broken, which exceeds data.max_broken_share="
            f"{self.max_share:g}. Repair or remove them, or raise the limit:\n" + "\n".join(lines)
        )

    def _read_report(self) -> None:
        if self.report is None or not self.report.is_file():
            return
        for line in self.report.read_text(errors="replace").splitlines():
            name, separator, reason = line.partition(": ")
            if separator:
                self.reasons.setdefault(name, reason)
