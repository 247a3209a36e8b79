"""Hypothesis strategies for any instance of a wire struct, derived from its types."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from functools import cache
from typing import Any, get_args

import msgspec
from hypothesis import strategies as st
from msgspec import inspect

from schemas.conduct import Conduct, ConductRule, Counts, Level, Name, Recommendation, Scope
from schemas.identifiers import CategoryCode, Identifier, Role, Sha256
from schemas.policy import Band, Category, Policy, PolicyExample, judgement_hash, policy_hash
from schemas.policy_change import PolicyChange

_PATTERNS = {
    name: get_args(kind)[1].pattern
    for name, kind in (("identifier", Identifier), ("code", CategoryCode), ("sha", Sha256), ("name", Name))
}
printable = st.characters(codec="utf-8", exclude_characters=[chr(c) for c in (*range(32), 127)])
_IDENTIFIERS = st.text(printable, min_size=1, max_size=40)
# A policy and a category have one of them, or neither.
_ONE_OF_TWO = ("threshold", "max_false_positive_rate")
codes = st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,15}", fullmatch=True)
offsets = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@cache
def instances(struct: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    """Any valid instance of the struct."""
    if struct is Policy:
        return policies()
    if struct is PolicyChange:
        return changes()
    return _of(inspect.type_info(struct))


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Any valid policy."""
    fields = _policy_fields()
    names = draw(st.lists(codes, min_size=1, max_size=4, unique_by=str.casefold))
    categories = tuple(msgspec.structs.replace(draw(fields["categories"])[0], code=name) for name in names)
    examples = []
    for example in draw(fields["examples"]):
        named = tuple(draw(st.lists(st.sampled_from(names), max_size=2))) if example.label == "unsafe" else ()
        examples.append(msgspec.structs.replace(example, codes=named))
    drawn = {
        name: draw(strategy)
        for name, strategy in fields.items()
        if name not in ("categories", "conduct", "examples", "surfaces")
    }
    drawn[draw(st.sampled_from(_ONE_OF_TWO))] = None
    surfaces: tuple[Role, ...] = draw(
        st.sampled_from([("user",), ("assistant",), ("user", "assistant"), ("assistant", "user")])
    )
    drawn["conduct"] = draw(st.none() | conducts(names))
    return Policy(**drawn, categories=categories, examples=tuple(examples), surfaces=surfaces)


@st.composite
def changes(draw: st.DrawFn) -> PolicyChange:
    """Any valid change of a policy."""
    policy = draw(policies())
    told = {
        field.name: draw(_of(field.type))
        for field in _fields(PolicyChange)
        if field.name in ("change_id", "change", "changed_by", "why", "changed_at")
    }
    return PolicyChange(
        policy_id=policy.id,
        tenant=policy.tenant,
        version=policy.version,
        policy_hash=policy_hash(policy),
        judgement_hash=judgement_hash(policy),
        policy=policy if told["change"] == "published" else None,
        **told,
    )


@cache
def _policy_fields() -> dict[str, st.SearchStrategy[Any]]:
    return {field.name: _of(field.type) for field in _fields(Policy) if field.name != "conduct"}


@st.composite
def conducts(draw: st.DrawFn, names: list[str]) -> Conduct:
    """Any valid conduct of a policy with these categories."""
    rules = []
    for name in draw(
        st.lists(st.from_regex(r"[a-z][a-z0-9-]{0,9}", fullmatch=True), min_size=1, max_size=3, unique=True)
    ):
        per = draw(st.sampled_from(get_args(Scope)))
        counts: Counts = "weight" if per == "author" else draw(st.sampled_from(get_args(Counts)))
        scores = draw(st.lists(st.floats(0.1, 900), min_size=1, max_size=4, unique=True))
        words = draw(st.permutations(get_args(Recommendation)))
        levels = tuple(
            Level(score=score, recommend=word, for_s=draw(st.none() | st.integers(1, 31_536_000)))
            for score, word in zip(sorted(scores), words, strict=False)
        )
        rules.append(
            ConductRule(
                id=name,
                per=per,
                counts=counts,
                levels=levels,
                window_s=draw(st.integers(1, 31_536_000)),
                window=draw(st.sampled_from(["sliding", "tumbling"])),
                half_life_s=draw(st.none() | st.integers(1, 9999)) if counts == "weight" else None,
                categories=draw(st.dictionaries(st.sampled_from(names), st.floats(0, 100), max_size=2)),
                roles=draw(st.sampled_from([("user",), ("assistant",), ("user", "assistant")])),
            )
        )
    return Conduct(rules=tuple(rules))


def _fields(struct: type[msgspec.Struct]) -> tuple[inspect.Field, ...]:
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    return info.fields


def _of(kind: inspect.Type) -> st.SearchStrategy[Any]:
    match kind:
        case inspect.Metadata(type=inspect.StrType(), extra_json_schema={"pattern": pattern}):
            assert pattern == _PATTERNS["identifier"]
            return _IDENTIFIERS
        case inspect.Metadata(type=inner):
            return _of(inner)
        case inspect.StructType(cls=cls):
            if cls is Band:
                ends = st.tuples(st.floats(0, 1), st.floats(0, 1))
                return ends.map(lambda pair: Band(low=min(pair), high=max(pair)))
            if cls is PolicyExample:
                return _build(cls, kind.fields, codes=st.just(()))
            if cls is Category:
                return st.one_of(*(_build(cls, kind.fields, **{name: st.none()}) for name in _ONE_OF_TWO))
            return _build(cls, kind.fields)
        case inspect.UnionType(types=types):
            return st.one_of(*(_of(one) for one in types))
        case inspect.VarTupleType(item_type=item, min_length=low):
            return st.lists(_of(item), min_size=low or 0, max_size=(low or 0) + 2).map(tuple)
        case inspect.DictType(key_type=key, value_type=value):
            return st.dictionaries(_of(key), _of(value), max_size=3)
        case inspect.LiteralType(values=values):
            return st.sampled_from(sorted(values, key=str))
        case inspect.StrType():
            return _text(kind)
        case _:
            return _scalar(kind)


def _build(
    cls: type[msgspec.Struct], fields: tuple[inspect.Field, ...], **given: st.SearchStrategy[Any]
) -> st.SearchStrategy[Any]:
    return st.builds(cls, **{field.name: given.get(field.name, _of(field.type)) for field in fields})


def _text(kind: inspect.StrType) -> st.SearchStrategy[str]:
    if kind.pattern == _PATTERNS["identifier"]:
        return _IDENTIFIERS
    if kind.pattern == _PATTERNS["code"]:
        return codes
    if kind.pattern == _PATTERNS["name"]:
        return st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True)
    if kind.pattern == _PATTERNS["sha"]:
        return st.text("0123456789abcdef", min_size=64, max_size=64)
    assert kind.pattern is None
    return st.text(min_size=kind.min_length or 0, max_size=min(kind.max_length or 40, 40))


def _scalar(kind: inspect.Type) -> st.SearchStrategy[Any]:
    match kind:
        case inspect.BoolType():
            return st.booleans()
        case inspect.NoneType():
            return st.none()
        case inspect.IntType(ge=low, le=high):
            return st.integers(low, high)
        case inspect.FloatType(gt=over, ge=low, le=high):
            open_end = over is not None
            return st.floats(
                over if open_end else low,
                high,
                exclude_min=open_end,
                allow_nan=False,
                allow_infinity=False,
            )
        case inspect.DateTimeType():
            return st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=offsets)  # noqa: DTZ001
        case _:
            raise NotImplementedError(kind)
