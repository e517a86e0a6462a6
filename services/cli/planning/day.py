"""A shop's day: few buy at night, and now and then everyone comes at once."""

from __future__ import annotations

NIGHT, BURST = 0.2, 10.0
SECONDS = 86_400
#: Shares of the day: how long night is, from one burst's begin to the next one's, and how long a burst is.
_NIGHT_SHARE, _EVERY, _LONG = 0.25, 0.1875, 0.0075
#: The mean of `shape`: a quiet quarter, four bursts, and the rest at 1.
MEAN = _NIGHT_SHARE * NIGHT + 4 * _LONG * BURST + (1 - _NIGHT_SHARE - 4 * _LONG)


def shape(share: float) -> float:
    """Rate at a share of the day, 0 to 1 from midnight, against the usual rate: a quiet quarter, then four bursts."""
    if share < _NIGHT_SHARE:
        return NIGHT
    return BURST if (share - _NIGHT_SHARE) % _EVERY < _LONG else 1.0


def since_morning(share: float) -> float:
    """Rate at a share of the day that begins in the morning and ends with the night, against the day's mean."""
    return shape((share + _NIGHT_SHARE) % 1) / MEAN
