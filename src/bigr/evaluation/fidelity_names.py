"""Names and titles of the figures of a comparison, which depend on the network."""

from __future__ import annotations

from bigr.metrics.features import FeatureNetwork

TITLES = {
    "fid": "FID",
    "sfid": "sFID",
    "is": "IS",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
    "kid": "KID",
    "accuracy": "accuracy",
}
OTHER_TITLES = {"fid": "Frechet distance", "is": "exp KL score", "kid": "kernel distance"}
"""Only in the feature space of Inception these are FID, IS and KID."""
OTHER_NAMES = {"fid": "frechet", "is": "score", "kid": "kernel"}
THOUSANDTHS = ("kid",)
"""Figures that tables show multiplied by 1,000."""


def metric_name(name: str, network: FeatureNetwork) -> str:
    """Return the name of a figure in ``metrics.json``; only Inception's is called ``fid``."""
    return f"{network.prefix}{OTHER_NAMES.get(name, name)}" if network.prefix else name


def metric_title(name: str, network: FeatureNetwork, count: int | None = None) -> str:
    """Return the title of a figure, such as FID-50k, with the number of images if it is given."""
    title = OTHER_TITLES.get(name, TITLES[name]) if network.prefix else TITLES[name]
    if count is not None:
        title += f"-{count // 1000}k" if count % 1000 == 0 else f"-{count}"
    details = ["x1000"] * (name in THOUSANDTHS) + [network.title] * bool(network.prefix)
    return f"{title} ({', '.join(details)})" if details else title


def explanations(
    found: dict[str, float], network: FeatureNetwork, count: int, dim: int
) -> list[str]:
    """Return explanations of figures that may surprise a reader.

    Args:
        found: the figures.
        network: network that computed the features.
        count: number of images.
        dim: number of features.
    """
    notes = []
    if found.get("kid", 0.0) < 0:
        notes.append(
            "The kernel distance is negative because its estimate is unbiased: for two sets that "
            "hardly differ, it scatters around zero. If both have the same number of images of "
            "each class, they are more alike than independent sets, and the estimate is mostly "
            "negative. Read it as zero."
        )
    if "fid" in found and count <= dim:
        notes.append(
            f"{count:,} images are too few to determine the covariance of {dim:,} features, which "
            f"makes the {metric_title('fid', network)} larger: compare it only with values for the "
            "same number of images."
        )
    return notes
