"""Images that can't be decoded: named once each in a report, and too many end the run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

SHOWN = 20


class BrokenImage(NamedTuple):
    """One image that was left out or replaced."""

    name: str
    reason: str


class TooManyBrokenError(ValueError):
    """The share of broken images is above the limit."""


class BrokenImages:
    """Counts broken images and writes each into the report once, also over a restart.

    Args:
        total: images of the data set.
        max_share: above this share of them, the run stops.
        report: a line for each, ``<name>: <reason>``; None writes none. Several processes may
            share it.

    Raises:
        ValueError: if ``max_share`` isn't in 0..1.
    """

    def __init__(self, total: int, max_share: float, report: Path | None = None) -> None:
        if not 0 <= max_share <= 1:
            raise ValueError(f"data.max_broken_share={max_share} must be a share from 0 to 1.")
        self.total = total
        self.max_share = max_share
        self.report = report
        self.reasons: dict[str, str] = {}

    def add(self, images: Iterable[BrokenImage]) -> list[BrokenImage]:
        """Record images.

        Returns:
            Those that are new.

        Raises:
            TooManyBrokenError: if that makes too many; names some of them.
        """
        unknown = [image for image in images if image.name not in self.reasons]
        if not unknown:
            return []
        self._read_report()  # another process, or an earlier start, may know them
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
        """Raise :class:`TooManyBrokenError` if there are too many."""
        count = len(self.reasons)
        if count <= self.max_share * self.total:
            return
        lines = [f"  {name}: {reason}" for name, reason in list(self.reasons.items())[:SHOWN]]
        if count > SHOWN:
            lines.append(
                f"  … and {count - SHOWN} more" + (f" in {self.report}" if self.report else "")
            )
        raise TooManyBrokenError(
            f"{count} of {self.total} images are broken, more than data.max_broken_share="
            f"{self.max_share:g} of them. Mend or remove them, or raise that share:\n"
            + "\n".join(lines)
        )

    def _read_report(self) -> None:
        if self.report is None or not self.report.is_file():
            return
        for line in self.report.read_text(errors="replace").splitlines():
            name, separator, reason = line.partition(": ")
            if separator:
                self.reasons.setdefault(name, reason)
