"""Class names that people read."""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Sequence

WNID = re.compile(r"n\d{8}")
IMAGENET_CLASSES = 1000


def display_names(classes: Sequence[str]) -> list[str]:
    """Names for pictures and menus: words for the 1,000 wnids of ImageNet-1K, else the names given.

    Args:
        classes: names of class folders, in the order of the labels.
    """
    if len(classes) != IMAGENET_CLASSES or not all(WNID.fullmatch(name) for name in classes):
        return list(classes)
    return default_names(IMAGENET_CLASSES) or []


def default_names(num_classes: int) -> list[str] | None:
    """Return ImageNet-1K's names for 1,000 classes, and None for any other number."""
    if num_classes != IMAGENET_CLASSES:
        return None
    from torchvision.models import ResNet18_Weights  # its metadata; nothing is downloaded

    return [str(name) for name in ResNet18_Weights.IMAGENET1K_V1.meta["categories"]]


def find_class(name: int | str, num_classes: int, names: Sequence[str] | None) -> int:
    """A class by its number or name, upper or lower case.

    Raises:
        ValueError: if there is none, or several have the name.
    """
    if not isinstance(name, str):
        name = operator.index(name)
        if not 0 <= name < num_classes:
            raise ValueError(f"class {name}: this generator has the classes 0..{num_classes - 1}.")
        return name
    if names is None and name.strip().isdigit():
        return find_class(int(name), num_classes, None)
    if names is None:
        raise ValueError(
            f"class {name!r}: this generator has no names for its classes, 0..{num_classes - 1}."
        )
    wanted = name.strip().casefold()
    lower = [known.casefold() for known in names]
    found = [index for index, known in enumerate(lower) if known == wanted]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f"class {name!r} is {' and '.join(map(str, found))}: give the number.")
    if wanted.isdigit():
        return find_class(int(wanted), num_classes, None)
    near = [known for known in lower if wanted and wanted in known]
    near = near or difflib.get_close_matches(wanted, lower, 3, cutoff=0.6)
    hint = (
        f" Did you mean {' or '.join(names[lower.index(known)] for known in near[:3])}?"
        if near
        else ""
    )
    raise ValueError(f"class {name!r}: there is none of this name.{hint}")
