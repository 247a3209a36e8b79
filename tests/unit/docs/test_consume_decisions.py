"""The code of the consumers' guide, run on sample records."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import pytest

from schemas.generate import FOLDER
from tests.unit.docs.pages import ROOT, Page

DECISION = json.loads((FOLDER / "examples" / "decision" / "v1" / "good_judged.json").read_bytes())
(CODE,) = [
    block.text
    for block in Page(ROOT / "docs" / "how-to" / "consume-decisions.md").blocks
    if block.language == "python"
]


class Message:
    def __init__(self, content: dict[str, Any] | None) -> None:
        self._content = content

    def value(self) -> bytes:
        return json.dumps(self._content).encode()

    def error(self) -> str | None:
        return "a broker is away" if self._content is None else None


class FakeConsumer:
    """Gives the samples, then the interruption that ends the loop; remembers what was committed."""

    def __init__(self, options: dict[str, Any], samples: Iterable[Message | None], log: list[Any]) -> None:
        self.options, self._samples, self._log = options, iter(samples), log

    def subscribe(self, topics: list[str]) -> None:
        self.topics = topics

    def poll(self, timeout: float) -> Message | None:
        try:
            return next(self._samples)
        except StopIteration:
            raise KeyboardInterrupt from None

    def commit(self, message: Message) -> None:
        self._log.append(("commit", json.loads(message.value())["decision_id"]))


def _run(
    samples: Iterable[Message | None], monkeypatch: pytest.MonkeyPatch
) -> tuple[list[Any], dict[str, Any]]:
    """What was acted on and committed, in order, and the names of the code."""
    log: list[Any] = []
    library = ModuleType("confluent_kafka")
    library.Consumer = lambda options: FakeConsumer(options, samples, log)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "confluent_kafka", library)
    names: dict[str, Any] = {"act": lambda tenant, message, action: log.append((tenant, message, action))}
    with pytest.raises(KeyboardInterrupt):
        exec(compile(CODE, "consume-decisions.md", "exec"), names)
    return log, names


def _decision(number: int, **fields: Any) -> Message:
    own = {"decision_id": f"{number:064x}", "message_id": f"m-{number}", "lane": "live"}
    return Message({**DECISION, **own, **fields})


def test_each_id_is_acted_on_once_and_committed_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    unjudged = {"status": "unjudged", "reason": "late", "action": "review", "label": None, "score": None}
    samples = [
        *(
            _decision(1),
            None,
            _decision(2),
            Message(None),
            _decision(1, timings={}),
            _decision(2, **unjudged),
        ),
        *(_decision(3, **unjudged), _decision(3)),  # the first one counts, unjudged or not
        *(_decision(4, lane="shadow"), _decision(5, a_later_field=1)),
    ]
    log, names = _run(samples, monkeypatch)
    acts = [entry for entry in log if len(entry) == 3]
    assert acts == [
        ("acme", "m-1", "block"),
        ("acme", "m-2", "block"),
        ("acme", "m-3", "review"),
        ("acme", "m-5", "block"),
    ]
    commits = [entry[1] for entry in log if len(entry) == 2]
    assert commits == [f"{number:064x}" for number in (1, 2, 1, 2, 3, 3, 4, 5)]
    assert log.index(acts[0]) < log.index(("commit", commits[0]))
    consumer = names["consumer"]
    assert consumer.topics == ["moderation.decisions"]
    assert consumer.options["enable.auto.commit"] is False
    assert consumer.options["isolation.level"] == "read_committed"


def test_memory_is_bounded_and_the_oldest_ids_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"lane": "live", "tenant": "t", "action": "allow"}
    samples = (Message({"decision_id": str(n), "message_id": str(n), **small}) for n in range(200_010))
    _, names = _run(samples, monkeypatch)
    assert len(names["acted_on"]) == 200_000
    assert next(iter(names["acted_on"])) == "10"
