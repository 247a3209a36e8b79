"""A message → its result: which policy, which action, and that no word of the message is in it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from guard.errors import EngineDead, EngineFailed
from guard.serving.question import Question
from schemas.policy import Category
from schemas.verdict import Unjudged, Verdict
from tests.unit.workers.lines.worlds import RUN, FakeGuard, answering, lines_of, policies
from tests.unit.workers.moderation.builders import GUARD, make_event, make_policy
from workers.lines.answer import Result


async def result(value: object, guard: FakeGuard | None = None, **changes: Any) -> Result:
    (line,) = lines_of(value if isinstance(value, bytes) else json.dumps(value).encode())
    return await answering(guard, **changes).result(line)


async def test_a_verdict_has_all_that_a_decision_has_of_it() -> None:
    found = await result({"text": "something unsafe", "id": "m-7"})
    assert (found.line, found.id, found.status, found.run) == (1, "m-7", "judged", RUN)
    assert (found.label, found.action) == ("unsafe", "flag")
    assert (found.score, found.score_kind, found.raw_score, found.threshold) == (0.9, "raw", 0.9, 0.5)
    assert [(one.code, one.violated) for one in found.categories] == [("C1", True)]
    assert (found.policy, found.policy_version, found.mode) == ("p-1", "1", "think")
    assert (found.model, found.engine) == (GUARD.model, "scripted")
    assert [step.prompt_tokens for step in found.steps] == [7]
    assert found.coverage is not None
    assert found.coverage.windows == 1


async def test_fields_without_a_value_are_left_out() -> None:
    encoded = json.loads(msgspec.json.encode(await result({"text": "lost"})))
    assert encoded["status"] == "unjudged"
    assert (encoded["reason"], encoded["detail"], encoded["action"]) == (
        "unparseable",
        "no_verdict",
        "review",
    )
    assert "label" not in encoded
    assert "rationale" not in encoded


@pytest.mark.parametrize(("form", "told"), [("masked", True), ("off", False), ("full", True)])
async def test_a_rationale_goes_as_the_setting_says(form: str, told: bool) -> None:
    found = await result({"text": "strawberries are unsafe"}, rationale=form)
    assert (found.rationale is not None) == told
    assert ("strawberries" in (found.rationale or "")) == (form == "full")


async def test_a_line_that_is_not_read_has_a_result_that_says_why() -> None:
    found = await result({"texts": "strawberries"})
    assert found.status == "error"
    assert (found.reason, found.field) == ("invalid", "$.texts")
    assert "strawberries" not in msgspec.json.encode(found).decode()


async def test_texts_are_asked_as_the_guard_reads_them() -> None:
    guard = FakeGuard()
    await result({"text": "str\u200baw", "context": [{"role": "assistant", "text": "\uff48i"}]}, guard)
    assert [turn.text for turn in guard.asked[0].turns] == ["hi", "straw"]


async def test_an_event_is_judged_by_its_tenants_policy_and_a_text_by_the_one_that_it_names() -> None:
    of_acme = make_policy(id="own", tenant="acme")
    loaded = policies(make_policy(), of_acme)
    event = await result(msgspec.json.encode(make_event(tenant="acme")), policies=loaded)
    other = await result(msgspec.json.encode(make_event(tenant="globex", policy="own")), policies=loaded)
    told = await result({"text": "a", "policy": "own"}, policies=loaded)
    plain = await result({"text": "a"}, policies=loaded)
    unknown = await result({"text": "a", "policy": "nobody"}, policies=loaded)
    assert (event.policy, told.policy, plain.policy) == ("own", "own", "p-1")
    assert (other.status, other.field, other.reason) == ("error", "$.policy", "unknown_policy")
    assert (unknown.status, unknown.field) == ("error", "$.policy")


async def test_a_policy_of_the_command_line_is_every_lines() -> None:
    loaded = policies(make_policy(), only=make_policy(id="mine"), mode="fast")
    found = await result({"text": "a", "policy": "p-1"}, policies=loaded)
    assert (found.policy, found.mode) == ("mine", "fast")


async def test_a_role_that_the_policy_does_not_judge_is_not_asked_about() -> None:
    guard = FakeGuard()
    loaded = policies(make_policy(surfaces=("user",)))
    found = await result({"text": "unsafe", "role": "assistant"}, guard, policies=loaded)
    assert (found.status, found.action, found.reason) == ("not_applicable", "allow", "role_not_judged")
    assert guard.asked == []


async def test_another_mode_gives_another_hash_of_the_policies() -> None:
    assert policies(mode="fast").hashes != policies(mode="think").hashes
    changed = make_policy(categories=(Category(code="C1", title="one", definition="other"),))
    assert policies().hashes != policies(changed).hashes


class Failing(FakeGuard):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    async def judge(self, question: Question) -> Verdict | Unjudged:
        raise self.error


async def test_a_guard_that_fails_on_one_line_leaves_it_unjudged() -> None:
    found = await result({"text": "a"}, Failing(EngineFailed("x")))
    assert (found.status, found.reason) == ("unjudged", "engine_failed")


async def test_a_dead_guard_says_nothing_of_the_line() -> None:
    with pytest.raises(EngineDead):
        await result({"text": "a"}, Failing(EngineDead("gone")))
