"""What the score of a verdict is: a probability of `unsafe`, from one reading of the model or from two.

After a rationale the model is almost always sure: on the shipped checkpoint 96 % of the decisive tokens have
a probability above 0.999. So the score of `think` may be of two readings, the one before the rationale (as
`fast` has it) and the one after it; docs/studies/think-score.md has the figures.
"""

from __future__ import annotations

import math
from typing import Final, Literal, NamedTuple

ThinkScore = Literal["verdict", "both"]
"""`verdict`: p(unsafe) where the verdict after the rationale is decided; `both`: see `mean_of_both`."""


class RawBand(NamedTuple):
    """The raw fast scores of which the mode `adaptive` is not sure: from `low`, below `high`.

    Both from 0 to 1, or infinite where no score reaches them.
    """

    low: float
    high: float

    def holds(self, score: float | None) -> bool:
        """Whether thinking is asked for; without a score there is nothing to be sure of."""
        return score is None or self.low <= score < self.high

    def __str__(self) -> str:
        """Canonical text, as it enters cache keys: the shortest that reads back as the same numbers."""
        return f"{self.low!r}..{self.high!r}"


# Log-odds beyond this are noise: a float32 log-probability of -30 has no digits left beside 0.
_MOST_LOG_ODDS: Final = 30.0


def p_unsafe(pair: tuple[float, ...] | None) -> float | None:
    """p(unsafe) from the log-probabilities (safe, unsafe), normalised over the two; None where undefined."""
    if pair is None:
        return None
    safe, unsafe = pair
    if math.isnan(safe) or math.isnan(unsafe) or max(safe, unsafe) == -math.inf:
        return None
    difference = safe - unsafe
    if difference > 700:  # math.exp overflows a double beyond 709
        return 0.0
    return 1.0 / (1.0 + math.exp(difference))


def log_odds(probability: float) -> float:
    """ln(p / (1 - p)), from -30 to 30. `probability` from 0 to 1.

    >>> log_odds(0.5), log_odds(1.0)
    (0.0, 30.0)
    """
    if probability <= 0.0:
        return -_MOST_LOG_ODDS
    if probability >= 1.0:
        return _MOST_LOG_ODDS
    odds = math.log(probability) - math.log1p(-probability)
    return max(-_MOST_LOG_ODDS, min(_MOST_LOG_ODDS, odds))


def probability(odds: float) -> float:
    """The probability of log-odds; the inverse of `log_odds`.

    >>> probability(0.0)
    0.5
    """
    if odds < 0:
        share = math.exp(odds)
        return share / (1.0 + share)
    return 1.0 / (1.0 + math.exp(-odds))


def mean_of_both(fast: float | None, verdict: float | None) -> float | None:
    """The probability whose log-odds are the mean of both readings' (a logarithmic opinion pool).

    Genest and Zidek (1986), "Combining probability distributions", with equal weights. None where either
    reading is absent: a score of one reading is another quantity, which no calibration of both knows.

    >>> round(mean_of_both(0.5, 0.9), 3)
    0.75
    """
    if fast is None or verdict is None:
        return None
    return probability((log_odds(fast) + log_odds(verdict)) / 2)
