"""Human-readable names of classes."""

from __future__ import annotations

import collections
import difflib
import operator
from collections.abc import Sequence
from pathlib import Path

from bigr.data.files import check_regular

IMAGENET_CLASSES = 1000
IMAGENET_IDS = ("n01440764", "n15075141")
"""The first and the last WordNet id of ImageNet-1K, whose classes are in the order of the ids."""
FEW = 20
"""Number of classes up to which a message lists all of them."""


def default_names(num_classes: int) -> list[str] | None:
    """Return the names of ImageNet-1K for 1,000 classes, and None for any other number."""
    if num_classes != IMAGENET_CLASSES:
        return None
    from torchvision.models import ResNet18_Weights  # only its metadata, without a download

    return [str(name) for name in ResNet18_Weights.IMAGENET1K_V1.meta["categories"]]


def read_names(path: Path, num_classes: int) -> list[str] | None:
    """Return the names in a file, one per line, or None if there is no such file.

    Raises:
        ValueError: if it is not a text file, or has another number of names.
    """
    if not path.exists():
        return None
    try:
        names = check_regular(path).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file in UTF-8: {error.reason}.") from error
    if len(names) != num_classes:
        raise ValueError(
            f"{path} has {len(names)} lines, and the generator has {num_classes} classes: it needs "
            "the name of one class per line."
        )
    return names


def readable_names(names: Sequence[str] | None, num_classes: int) -> list[str] | None:
    """Return the names of a model's classes, in words if they are those of ImageNet-1K.

    Args:
        names: the names in the training data; for ImageNet, these are WordNet ids. None if they are
            not known; 1,000 classes are then assumed to be those of ImageNet.
        num_classes: number of classes of the generator.
    """
    if not names or (len(names) == IMAGENET_CLASSES and (names[0], names[-1]) == IMAGENET_IDS):
        return default_names(num_classes)
    return list(names)


def synonyms(names: Sequence[str]) -> dict[str, int]:
    """Return the number of each class by all of its names: "tench, Tinca tinca" has three.

    A name that several classes have is left out, unless it is the whole name of a single one.
    """
    whole, parts = collections.defaultdict(set), collections.defaultdict(set)
    for index, known in enumerate(names):
        whole[known].add(index)
        for name in known.split(", "):
            parts[name].add(index)
    return {
        name: numbers.pop() for name, numbers in {**parts, **whole}.items() if len(numbers) == 1
    }


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
        try:
            name = operator.index(name)
        except TypeError as error:
            raise TypeError(f"a class is given by its number or name, got {name!r}.") from error
        if not 0 <= name < num_classes:
            raise ValueError(f"class {name}: this generator has the classes 0..{num_classes - 1}.")
        return name
    if names is None and name.strip().isdigit():
        return find_class(int(name), num_classes, None)
    if names is None:
        raise ValueError(
            f"class {name!r}: this generator has no names for its classes, 0..{num_classes - 1}."
        )
    # 1. An exact match, of the whole name or of a synonym in "tench, Tinca tinca".
    wanted = name.strip().casefold()
    lower = [known.casefold() for known in names]
    found = [index for index, known in enumerate(lower) if known == wanted]
    found = found or [index for index, known in enumerate(lower) if wanted in known.split(", ")]
    if len(found) == 1:
        return found[0]
    if found:
        numbers = " and ".join(map(str, found))
        raise ValueError(f"class {name!r} stands for the classes {numbers}: give the number.")
    # 2. A number in a string.
    if wanted.isdigit():
        return find_class(int(wanted), num_classes, None)
    # 3. No match: suggest names that contain the word, or names and synonyms that resemble it.
    words = {name.casefold(): name for known in names for name in (known, *known.split(", "))}
    near = [known for known in lower if wanted and wanted in known]
    near = near or difflib.get_close_matches(wanted, words, 3, cutoff=0.6)
    hint = f" Did you mean {' or '.join(words[name] for name in near[:3])}?" if near else ""
    if not hint and len(names) <= FEW:
        hint = f" The classes are {', '.join(names)}."
    raise ValueError(f"class {name!r}: no class has this name.{hint}")
