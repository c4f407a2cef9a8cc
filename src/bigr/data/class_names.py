"""Human-readable names of classes."""

from __future__ import annotations

import difflib
import operator
from collections.abc import Sequence

IMAGENET_CLASSES = 1000


def default_names(num_classes: int) -> list[str] | None:
    """Return the names of ImageNet-1K for 1,000 classes, and None for any other number."""
    if num_classes != IMAGENET_CLASSES:
        return None
    from torchvision.models import ResNet18_Weights  # only its metadata, without a download

    return [str(name) for name in ResNet18_Weights.IMAGENET1K_V1.meta["categories"]]


def find_class(name: int | str, num_classes: int, names: Sequence[str] | None) -> int:
    """Return the number of a class.

    Args:
        name: number or name; upper and lower case are the same.
        num_classes: number of classes of the generator.
        names: name of each class, if they are known.

    Raises:
        ValueError: if there is no such class, or several have the name.
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
    # 1. An exact match.
    wanted = name.strip().casefold()
    lower = [known.casefold() for known in names]
    found = [index for index, known in enumerate(lower) if known == wanted]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f"class {name!r} is {' and '.join(map(str, found))}: give the number.")
    # 2. A number in a string.
    if wanted.isdigit():
        return find_class(int(wanted), num_classes, None)
    # 3. No match: suggest names that contain the word or resemble it.
    near = [known for known in lower if wanted and wanted in known]
    near = near or difflib.get_close_matches(wanted, lower, 3, cutoff=0.6)
    similar = " or ".join(names[lower.index(known)] for known in near[:3])
    hint = f" Did you mean {similar}?" if near else ""
    raise ValueError(f"class {name!r}: no class has this name.{hint}")
