"""How far to trust a share."""

from __future__ import annotations


def wilson(right: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share of `right` out of n (Wilson 1927); (0, 1) where n is 0."""
    if n == 0:
        return 0.0, 1.0
    p, zz = right / n, z * z / n
    middle, reach = p + zz / 2, z * ((p * (1 - p) + zz / 4) / n) ** 0.5
    return max(0.0, (middle - reach) / (1 + zz)), min(1.0, (middle + reach) / (1 + zz))
