"""Step 5, keep verdict: remembered before its decision is published, so that a second delivery repeats it."""

from __future__ import annotations

import msgspec

from guard.rationale import mask
from schemas.decision import GuardUsed
from schemas.verdict import Verdict
from workers.moderation.normalise_event import texts_of
from workers.moderation.outcome import Asked
from workers.ports import CachedVerdict, RationaleForm, VerdictCache


def cacheable(
    asked: Asked, verdict: Verdict, guard: GuardUsed, form: RationaleForm, now_ms: float, ttl_s: int
) -> CachedVerdict:
    """The verdict as it may be kept: unless the setting says `full`, no words of the input are in it."""
    rationale = verdict.rationale
    if form == "off":
        rationale = ""
    elif form == "masked" and rationale:
        rationale = mask(rationale, texts_of(asked.event, asked.read))
    return CachedVerdict(
        verdict=msgspec.structs.replace(verdict, rationale=rationale),
        origin_decision=asked.decision_id,
        kept_at_ms=int(now_ms),
        rationale_form=form,
        model=guard.model,
        checkpoint_digest=guard.checkpoint_digest,
        verified=guard.verified,
        engine_version=guard.engine_version,
        expires_at_ms=int(now_ms) + lifetime_s(asked, ttl_s) * 1000,
    )


def lifetime_s(asked: Asked, ttl_s: int) -> int:
    """How long its verdict is kept: as the policy says, else `ttl_s`; 0: not at all."""
    own = asked.chosen.policy.cache_ttl
    return ttl_s if own is None else own


async def keep_verdict(asked: Asked, cached: CachedVerdict, cache: VerdictCache, ttl_s: int) -> None:
    """Keep it as long as the policy says, else `ttl_s`; 0 keeps nothing."""
    seconds = lifetime_s(asked, ttl_s)
    if seconds > 0:
        await cache.keep(asked.cache_key, cached, seconds)
