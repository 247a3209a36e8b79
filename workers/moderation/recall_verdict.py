"""Step 3, recall verdict: what the guard said of the same question before."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple
from urllib.parse import quote, unquote

import msgspec

from guard.rationale import mask
from guard.scores import RawBand
from schemas.decision import CacheUse, GuardUsed
from schemas.event import Event
from schemas.identifiers import Mode, Role
from workers.moderation.fingerprint import TenantFingerprints
from workers.moderation.normalise_event import texts_of
from workers.moderation.outcome import Asked, ChosenPolicy, Judged
from workers.ports import CachedVerdict, RationaleForm, VerdictCache

# The number is the version of keys and values; a change makes old entries misses.
KEY_PREFIX: Final = "rsafe:1:verdict"
# Characters of the digest that stands for decoding parameters, parser and engine.
_ASKING_LENGTH: Final = 16


class VerdictKeys:
    """The cache key of a question; policy and weights are plain segments, so that they can be flushed.

    `rsafe:1:verdict:{scope}:{judgement_hash}:{weights_digest}:{template}:{mode}-{asking}:{role}:{fingerprints}`

    `scope` is the tenant, or `*`; `asking` a digest of decoding parameters, parser and engine, so that a
    stand-in's verdicts are never taken for a model's, and with `adaptive` of the band in force, under which
    it went one way or the other; `fingerprints` the HMACs of text and context, both exactly as the guard sees
    them, with a dot between.
    """

    def __init__(
        self,
        scope: Literal["tenant", "shared"],
        fingerprints: TenantFingerprints,
        guards: Mapping[Mode, GuardUsed],
    ) -> None:
        self._shared = fingerprints.of("") if scope == "shared" else None
        self._guards = guards
        self._prefixes: dict[tuple[str, str, Role], str] = {}

    def key(self, event: Event, chosen: ChosenPolicy, content_mac: str, context_digest: str) -> str:
        """The key of an event as the guard reads it; the two fingerprints are the tenant's, of that."""
        message = event.message
        tenant = event.tenant
        if self._shared is not None:
            tenant = ""
            content_mac = self._shared.text(message.text)
            context_digest = self._shared.context(event.context)
        place = (tenant, chosen.asking, message.role)
        prefix = self._prefixes.get(place) or self._make_prefix(place, chosen)
        return f"{prefix}{content_mac}.{context_digest}"

    def _make_prefix(self, place: tuple[str, str, Role], chosen: ChosenPolicy) -> str:
        tenant, _, role = place
        scope = quote(tenant, safe="") or "*"
        asking = _asking(self._guards[chosen.policy.mode], chosen.uncertain.get(role), chosen.mapping)
        prefix = f"{KEY_PREFIX}:{scope}:{chosen.used.judgement_hash}:{asking}:{role}:"
        if len(self._prefixes) >= 10_000:  # tenants times policies; made anew in a microsecond
            self._prefixes.clear()
        self._prefixes[place] = prefix
        return prefix


def _asking(used: GuardUsed, uncertain: RawBand | None, mapping: str) -> str:
    how = f"{used.decoding}\0{used.parser_version}\0{used.engine}"
    if uncertain is not None:  # under another band it might have gone the other way
        how = f"{how}\0{uncertain}"
    if mapping:  # another crosswalk makes other verdicts of the same answers
        how = f"{how}\0{mapping}"
    digest = hashlib.sha256(how.encode()).hexdigest()[:_ASKING_LENGTH]
    return f"{used.weights_digest}:{quote(used.template_version, safe='')}:{used.mode}-{digest}"


class KeySegments(NamedTuple):
    """What stands in a key in plain sight. `scope`: the tenant, or `*`; `asking`: mode and decoding."""

    scope: str
    judgement_hash: str
    weights_digest: str
    template: str
    asking: str
    role: str


def read_key(key: str) -> KeySegments | None:
    """The segments of a key of this version; None for any other."""
    if not key.startswith(f"{KEY_PREFIX}:"):
        return None
    segments = key[len(KEY_PREFIX) + 1 :].split(":")
    if len(segments) != len(KeySegments._fields) + 1:
        return None
    scope, judgement, weights, template, asking, role, _ = segments
    return KeySegments(unquote(scope), judgement, weights, unquote(template), asking, role)


def key_pattern(judgement_hash: str = "*", weights_digest: str = "*") -> str:
    """What SCAN is to match for the keys of a policy's wording, of weights, or of both."""
    return f"{KEY_PREFIX}:*:{judgement_hash}:{weights_digest}:*"


async def recall_verdicts(asked: Sequence[Asked], cache: VerdictCache) -> list[CachedVerdict | None]:
    """One result per question, same order, in one round trip at most; a key is looked up once."""
    keys = list(dict.fromkeys([ask.cache_key for ask in asked]))
    if not keys:
        return []
    found = await cache.recall(keys)
    if len(keys) == len(asked):
        return found
    by_key = dict(zip(keys, found, strict=True))
    return [by_key[ask.cache_key] for ask in asked]


def judged_before(asked: Asked, cached: CachedVerdict, guard: GuardUsed, rationale: RationaleForm) -> Judged:
    """A remembered verdict as the answer; its rationale goes through whatever the setting asks for now.

    The key stands for the texts as the guard read them, which is all that a rationale can quote; so one
    answer does for every event with this key.
    """
    text = cached.verdict.rationale
    if rationale == "off":
        text = ""
    elif rationale == "masked" and cached.rationale_form == "full" and text:
        text = masked(asked.event, asked.read, text)
    return Judged(cached.verdict, guard_of(cached, guard), text)


def masked(event: Event, read: Event, rationale: str) -> str:
    """The rationale without the words of the message and its context, as they came and as they were read."""
    return mask(rationale, texts_of(event, read))


def use_of(cached: CachedVerdict, now_ms: float) -> CacheUse:
    """Whose verdict it is and how old."""
    age = now_ms - cached.kept_at_ms
    return CacheUse(hit=True, origin_decision=cached.origin_decision, age_ms=age if age > 0 else 0.0)


def guard_of(cached: CachedVerdict, now: GuardUsed) -> GuardUsed:
    """The guard that gave a remembered verdict: as now in what the key says, in the rest as it was then."""
    if (
        cached.engine_version == now.engine_version
        and cached.checkpoint_digest == now.checkpoint_digest
        and cached.model == now.model
        and cached.verified == now.verified
    ):
        return now
    return msgspec.structs.replace(
        now,
        model=cached.model,
        checkpoint_digest=cached.checkpoint_digest,
        verified=cached.verified,
        engine_version=cached.engine_version,
    )
