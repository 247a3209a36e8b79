"""Who judges and within which bounds: what a decision records, and what a cached verdict hangs on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from guard.normalise import NORMALISER
from guard.profiles.profile import Profile
from guard.scores import ThinkScore
from schemas.decision import GuardUsed
from schemas.identifiers import Mode


@dataclass(frozen=True, slots=True)
class JudgeLimits:
    """Bounds of one judgement. All counts are 1 or more."""

    max_model_len: int
    """Tokens of prompt and completion together."""
    think_budget_tokens: int = 512
    """Longest rationale; what the prompt leaves of the model's length, where that is less."""
    answer_tokens: int = 32
    """Room for verdict and codes."""
    call_timeout_s: float = 30.0
    """For one judgement, all its calls and retries together."""
    max_attempts: int = 2
    """Tries of a call that fails."""
    max_text_windows: int = 16
    """Windows in which a message is judged that fits no prompt; 1: it is not judged."""
    text_window_overlap_tokens: int = 128
    """Tokens that neighbouring windows share: what is no longer stands whole in one of them."""
    think_score: ThinkScore = "verdict"
    """What the score of `think` is made of; `both` asks for the fast verdict, too: one more call."""
    category_scores: bool = False
    """Whether an `unsafe` verdict gets a score for each category: one more short call."""
    quantization: str = ""
    """How the engine rounds the weights; empty: as they are stored."""

    def under(self, profile: Profile) -> JudgeLimits:
        """The same for a guard of a profile: with room for its answers, and no more than it can be asked."""
        scored = self.category_scores and profile.scores_codes
        room = max(self.answer_tokens, profile.answer_tokens)
        return replace(self, answer_tokens=room, category_scores=scored)


@dataclass(frozen=True, slots=True)
class GuardIdentity:
    """Who judges."""

    model: str
    checkpoint_digest: str
    weights_digest: str
    verified: bool
    template_version: str
    parser_version: str
    engine: str
    engine_version: str
    limits: JudgeLimits

    def decoding(self, mode: Mode) -> str:
        """Canonical text of engine, decoding and the form of texts; equal ones, comparable verdicts."""
        limits = self.limits
        # The codes of an unsafe verdict have as much room as an answer.
        how = f"tokens=1 answer={limits.answer_tokens}" if limits.category_scores else "tokens=1"
        score = ""
        if mode != "fast":
            score = "" if limits.think_score == "verdict" else f" score={limits.think_score}"
            how = f"think={limits.think_budget_tokens} answer={limits.answer_tokens}"
        if mode == "adaptive":  # its band differs by policy and role, and stands in the cache key by itself
            how = f"fast or {how}"
        codes = " codes=scored" if limits.category_scores else ""
        rounded = f" weights={limits.quantization}" if limits.quantization else ""
        # What is left out, and where a long message is cut, hangs on these in every mode.
        return (
            f"{self.engine} greedy {how} length={limits.max_model_len} "
            f"windows={limits.max_text_windows} overlap={limits.text_window_overlap_tokens} "
            f"text={NORMALISER}{score}{codes}{rounded}"
        )

    def used(self, mode: Mode) -> GuardUsed:
        """The same, as it stands in a decision."""
        return GuardUsed(
            model=self.model,
            checkpoint_digest=self.checkpoint_digest,
            weights_digest=self.weights_digest,
            verified=self.verified,
            template_version=self.template_version,
            parser_version=self.parser_version,
            engine=self.engine,
            engine_version=self.engine_version,
            mode=mode,
            decoding=self.decoding(mode),
        )


# What stands for which limit in `GuardIdentity.decoding`.
_COUNTS: Final = {
    "length": "max_model_len",
    "think": "think_budget_tokens",
    "answer": "answer_tokens",
    "windows": "max_text_windows",
    "overlap": "text_window_overlap_tokens",
}


def read_limits(decoding: str) -> JudgeLimits:
    """The limits of which `GuardIdentity.decoding` made this text; what it does not name has its default.

    Raises ValueError for a text that names no length. That everything was understood is known when
    `decoding` makes the same text of the result.
    """
    words = dict(word.split("=", 1) for word in decoding.split() if "=" in word)
    found: dict[str, Any] = {field: int(words[word]) for word, field in _COUNTS.items() if word in words}
    if "max_model_len" not in found:
        raise ValueError("expected the model's length")
    if words.get("score") == "both":
        found["think_score"] = "both"
    if words.get("codes") == "scored":
        found["category_scores"] = True
    if "weights" in words:
        found["quantization"] = words["weights"]
    return JudgeLimits(**found)
