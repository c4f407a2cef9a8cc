"""Example pictures for trying out models, taken from scikit-learn."""

from __future__ import annotations

from PIL import Image

from bigr.data.image_arrays import to_pil

PHOTOGRAPH_SIDE = 64
"""Smallest image size of a model for which the examples are photographs instead of digits."""
EXAMPLE_DIGITS = (3, 7, 2, 5, 6)


def example_pictures(image_size: int) -> list[Image.Image]:
    """Return five digits of the test split for small models, and two photographs for others.

    Args:
        image_size: side of the model's images in pixels.
    """
    if image_size < PHOTOGRAPH_SIDE:
        from bigr.data.digits import load_digits

        digits = load_digits("test", image_size)
        chosen = [int((digits.labels == label).nonzero()[0]) for label in EXAMPLE_DIGITS]
        return [to_pil(image) for image in digits.images[chosen]]
    from sklearn.datasets import load_sample_images

    return [Image.fromarray(array) for array in load_sample_images().images]
