"""One transaction at a time: what is retried, undone, and found out afterwards."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from workers.adapters import kafka_transactor as module
from workers.adapters.kafka_transactor import Job, Outgoing, Transactor
from workers.errors import SettingsError, StreamStopped
from workers.ports import Publication, Record

RETRIABLE = KafkaException(KafkaError(KafkaError._TIMED_OUT, "t", False, True))
FATAL = KafkaException(KafkaError(KafkaError._FENCED, "f", True))


def abortable(code: int) -> KafkaException:
    return KafkaException(KafkaError(code, "a", False, False, True))


class Broker:
    """Producers of one id, and what readers of committed records see."""

    def __init__(self) -> None:
        self.committed: list[bytes] = []
        self.offsets: dict[int, int] = {}
        self.script: dict[str, list[Any]] = {}
        self.calls: list[str] = []
        self.reports: dict[bytes, KafkaError] = {}
        self.lookups: list[Any] = []
        self.gone: KafkaError | None = None

    def make(self) -> Producer:
        self.calls.append("make")
        return Producer(self)

    def places(self, places: Sequence[TopicPartition]) -> Sequence[TopicPartition]:
        if self.lookups:
            raise self.lookups.pop(0)
        return [
            TopicPartition("t", place.partition, self.offsets.get(place.partition, -1001)) for place in places
        ]


class Producer:
    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.open: list[tuple[bytes, Callable[..., None]]] = []
        self.offsets: dict[int, int] = {}
        self.in_batch: list[bytes] = []
        self.login: tuple[str, str] | None = None

    def set_sasl_credentials(self, username: str, password: str) -> None:
        self.login = username, password

    def _step(self, name: str) -> None:
        self.broker.calls.append(name)
        if answers := self.broker.script.get(name):
            answer = answers.pop(0)
            if callable(answer):
                answer(self)
            elif answer is not None:
                raise answer

    def init_transactions(self, timeout: float) -> None:
        self._step("init")

    def begin_transaction(self) -> None:
        self._step("begin")
        self.open, self.offsets = [], {}

    def produce(self, topic: str, value: bytes, key: bytes, *, headers: Any, on_delivery: Any) -> None:
        self._step("produce")
        self.open.append((value, on_delivery))

    def poll(self, timeout: float) -> None:
        self.broker.calls.append("poll")

    def flush(self, timeout: float) -> None:
        self.broker.calls.append("flush")

    def purge(self, *, blocking: bool) -> None: ...

    def send_offsets_to_transaction(self, places: Any, membership: bytes, timeout: float) -> None:
        assert membership == b"member"
        self._step("offsets")
        self.offsets = {place.partition: place.offset for place in places}

    def commit_transaction(self, timeout: float) -> None:
        for value, report in self.open:
            if (error := self.broker.reports.get(value)) is not None:
                report(error, None)
        self._step("commit")
        self.end()

    def end(self) -> None:
        self.broker.committed += [value for value, _ in self.open]
        self.broker.offsets |= self.offsets

    def list_topics(self, topic: str, timeout: float) -> Any:
        return SimpleNamespace(topics={topic: SimpleNamespace(error=self.broker.gone)})

    def abort_transaction(self, timeout: float) -> None:
        self._step("abort")


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    monkeypatch.setattr(module, "_PAUSE_S", 0)
    return Broker()


def record(offset: int) -> Record:
    return Record("t", 0, offset, b"k", b"v", None, 0)


def job(*values: bytes, at: int = 5, alone: bool = False) -> Job:
    outgoing = [
        Outgoing(n, Publication("d", b"k", value, [], b"k"), record(n), alone)
        for n, value in enumerate(values)
    ]
    places = [TopicPartition("t", 0, at)]
    return Job(outgoing, places, frozenset({0} if values else ()), b"member")


def test_outcomes_and_offsets_are_committed_together_and_the_id_is_registered_once(broker: Broker) -> None:
    transactor = Transactor(broker.make, broker.places)
    assert transactor.run(job(b"a", b"b")).committed
    assert transactor.run(job(b"c", at=6)).committed
    assert (broker.committed, broker.offsets) == ([b"a", b"b", b"c"], {0: 6})
    assert broker.calls.count("make") == broker.calls.count("init") == 1


def test_what_may_be_called_again_is_called_again(broker: Broker) -> None:
    broker.script = {"init": [RETRIABLE], "commit": [RETRIABLE, RETRIABLE]}
    assert Transactor(broker.make, broker.places).run(job(b"a")).committed
    assert broker.committed == [b"a"]


def test_a_full_queue_is_waited_for(broker: Broker) -> None:
    broker.script = {"produce": [BufferError()]}
    assert Transactor(broker.make, broker.places).run(job(b"a")).committed
    assert broker.committed == [b"a"]
    assert "poll" in broker.calls


@pytest.mark.parametrize("step", ["begin", "offsets", "commit"])
def test_what_must_be_aborted_is_undone_and_can_be_tried_again(broker: Broker, step: str) -> None:
    broker.script = {step: [abortable(KafkaError.ILLEGAL_GENERATION)], "abort": [RETRIABLE]}
    transactor = Transactor(broker.make, broker.places)
    result = transactor.run(job(b"a"))
    assert (result.committed, result.why, broker.committed) == (False, "ILLEGAL_GENERATION", [])
    assert transactor.run(job(b"a")).committed
    assert broker.committed == [b"a"]
    assert broker.calls.count("make") == 1


@pytest.mark.parametrize("step", ["begin", "produce", "offsets"])
def test_a_producer_that_is_spent_before_the_end_is_replaced(broker: Broker, step: str) -> None:
    broker.script = {step: [FATAL]}
    transactor = Transactor(broker.make, broker.places)
    assert not transactor.run(job(b"a")).committed
    assert transactor.run(job(b"a")).committed
    assert broker.committed == [b"a"]
    assert broker.calls.count("make") == 2


@pytest.mark.parametrize("happened", [True, False])
@pytest.mark.parametrize("abort_fails", [True, False])
def test_whether_an_end_that_was_not_answered_was_one_is_read_from_the_offsets(
    broker: Broker, happened: bool, abort_fails: bool
) -> None:
    """The client gave up, and the broker may have committed all the same."""

    def unanswered(producer: Producer) -> None:
        if happened:
            producer.end()
        raise abortable(KafkaError._TIMED_OUT) if abort_fails else FATAL

    broker.script = {"commit": [unanswered], "abort": [FATAL]}
    broker.lookups = [KafkaException(KafkaError(KafkaError._TRANSPORT))]
    transactor = Transactor(broker.make, broker.places)
    assert transactor.run(job(b"a")).committed is happened
    if not happened:
        assert transactor.run(job(b"a")).committed
    assert broker.committed == [b"a"]


def test_what_cannot_be_found_out_stops_the_worker(broker: Broker) -> None:
    broker.script = {"commit": [FATAL]}
    broker.lookups = [KafkaException(KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED))]
    with pytest.raises(StreamStopped, match="cannot be told"):
        Transactor(broker.make, broker.places).run(job(b"a"))


def test_producers_that_are_spent_one_after_the_other_stop_the_worker(broker: Broker) -> None:
    broker.script = {"begin": [FATAL, FATAL, FATAL]}
    transactor = Transactor(broker.make, broker.places)
    for _ in range(2):
        assert not transactor.run(job(b"a")).committed
    with pytest.raises(StreamStopped, match="again and again"):
        transactor.run(job(b"a"))


def test_what_never_passes_stops_the_worker(broker: Broker) -> None:
    broker.script = {"offsets": [abortable(KafkaError.GROUP_AUTHORIZATION_FAILED)]}
    with pytest.raises(StreamStopped, match="ACLs"):
        Transactor(broker.make, broker.places).run(job(b"a"))
    assert broker.calls[-1] == "abort"


def test_a_membership_that_is_older_than_the_member_is_tried_again(broker: Broker) -> None:
    """A static member that was away comes back under its name; the next job has its new membership."""
    broker.script = {"offsets": [abortable(KafkaError.FENCED_INSTANCE_ID)]}
    transactor = Transactor(broker.make, broker.places)
    assert transactor.run(job(b"a")).why == "FENCED_INSTANCE_ID"
    assert transactor.run(job(b"a")).committed
    assert broker.committed == [b"a"]


def test_a_topic_that_is_gone_is_named(broker: Broker) -> None:
    broker.reports = {b"a": KafkaError(KafkaError._UNKNOWN_TOPIC)}
    broker.script = {"commit": [abortable(KafkaError._UNKNOWN_TOPIC)]}
    with pytest.raises(StreamStopped, match="topic d is gone"):
        Transactor(broker.make, broker.places).run(job(b"a"))


def test_a_transaction_that_waits_for_a_deleted_topic_says_so(broker: Broker) -> None:
    broker.script = {"commit": [abortable(KafkaError._TIMED_OUT)]}
    broker.gone = KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)
    with pytest.raises(StreamStopped, match="topic d is gone"):
        Transactor(broker.make, broker.places).run(job(b"a"))


def test_what_is_too_large_is_told_and_what_was_purged_with_it_is_not(broker: Broker) -> None:
    broker.reports = {
        b"big": KafkaError(KafkaError.MSG_SIZE_TOO_LARGE),
        b"small": KafkaError(KafkaError._PURGE_QUEUE),
    }
    broker.script = {"commit": [abortable(KafkaError.MSG_SIZE_TOO_LARGE)]}
    given = job(b"big", b"small")
    result = Transactor(broker.make, broker.places).run(given)
    assert (result.committed, list(result.refused)) == (False, [given.outgoing[0]])


def test_what_is_too_large_for_the_client_was_alone(broker: Broker) -> None:
    broker.script = {"produce": [KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE))]}
    given = job(b"big")
    result = Transactor(broker.make, broker.places).run(given)
    assert list(result.refused) == [given.outgoing[0]]
    assert given.outgoing[0].alone


def test_what_goes_alone_has_a_batch_of_its_own(broker: Broker) -> None:
    Transactor(broker.make, broker.places).run(job(b"a", alone=True))
    assert broker.calls == ["make", "init", "begin", "flush", "produce", "flush", "offsets", "commit"]


@pytest.fixture
def returns(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Lets a call return that hangs otherwise; what is waited for is cut short."""
    monkeypatch.setattr(module, "_OFFSETS_S", 0.02)
    monkeypatch.setattr(module, "_OVERDUE_S", 0.02)
    monkeypatch.setattr(module, "_LOOK_S", 0.005)
    event = threading.Event()
    yield event
    event.set()


def test_offsets_whose_sending_never_returns_are_left_behind_with_their_producer(
    broker: Broker, returns: threading.Event
) -> None:
    broker.script = {"offsets": [lambda _: returns.wait(30)]}
    transactor = Transactor(broker.make, broker.places)
    result = transactor.run(job(b"a"))
    assert (result.committed, list(result.refused)) == (False, [])
    assert "does not return" in result.why
    assert "abort" not in broker.calls
    assert transactor.run(job(b"a")).committed
    assert broker.calls.count("make") == broker.calls.count("init") == 2
    returns.set()
    assert broker.committed == [b"a"]


def test_offsets_that_hang_again_and_again_stop_the_worker(broker: Broker, returns: threading.Event) -> None:
    broker.script = {"offsets": [lambda _: returns.wait(30)] * 3}
    transactor = Transactor(broker.make, broker.places)
    for _ in range(2):
        assert not transactor.run(job(b"a")).committed
    with pytest.raises(StreamStopped, match=r"again and again.*does not return"):
        transactor.run(job(b"a"))


def test_closing_does_not_wait_for_offsets_that_hang(
    broker: Broker, returns: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_OFFSETS_S", 1e9)
    monkeypatch.setattr(module, "_CALL_S", 0.01)
    transactor = Transactor(broker.make, broker.places)
    broker.script = {"offsets": [lambda _: transactor.close() or returns.wait(30)]}  # type: ignore[func-returns-value]
    assert not transactor.run(job(b"a")).committed
    assert not returns.is_set()


def test_reports_of_a_job_that_was_left_behind_are_not_taken_for_the_next(
    broker: Broker, returns: threading.Event
) -> None:
    old: list[Producer] = []

    def hang(producer: Producer) -> None:
        old.append(producer)
        returns.wait(30)

    def late(_: Producer) -> None:
        for _value, report in old[0].open:
            report(KafkaError(KafkaError._UNKNOWN_TOPIC), None)
        raise abortable(KafkaError.ILLEGAL_GENERATION)

    broker.script = {"offsets": [hang], "commit": [late]}
    transactor = Transactor(broker.make, broker.places)
    transactor.run(job(b"a"))
    assert transactor.run(job(b"a")).why == "ILLEGAL_GENERATION"


def test_closing_ends_the_waiting_and_claims_nothing(broker: Broker) -> None:
    transactor = Transactor(broker.make, broker.places)

    def closed(_: Producer) -> None:
        transactor.close()
        raise RETRIABLE

    broker.script = {"commit": [closed], "abort": [None]}
    assert not transactor.run(job(b"a")).committed
    assert broker.committed == []


def test_a_changed_password_is_used_by_the_producer_and_by_those_after_it(broker: Broker) -> None:
    transactor = Transactor(broker.make, broker.places)
    before: Producer = transactor.prepare()
    transactor.log_in("me", "later")
    assert before.login == transactor.login == ("me", "later")
    broker.script["commit"] = [FATAL]
    transactor.run(job(b"1"))
    after: Producer = transactor.prepare()
    assert after is not before
    assert after.login == ("me", "later")


def test_a_password_that_changes_while_a_producer_registers_is_used_by_it(broker: Broker) -> None:
    transactor = Transactor(broker.make, broker.places)
    broker.script["init"] = [lambda _: transactor.log_in("me", "later")]
    assert transactor.prepare().login == ("me", "later")


def test_ended_it_holds_no_producer(broker: Broker) -> None:
    transactor = Transactor(broker.make, broker.places)
    transactor.prepare()
    transactor.end()
    assert transactor._producer is None


def test_files_in_the_course_of_a_change_are_waited_for(broker: Broker) -> None:
    unfit = [SettingsError("half written")] * 4

    def make() -> Producer:
        if unfit:
            raise unfit.pop()
        return broker.make()

    def places(places: Sequence[TopicPartition]) -> Sequence[TopicPartition]:
        if unfit:
            raise unfit.pop()
        return broker.places(places)

    transactor = Transactor(make, places)
    assert transactor.run(job(b"a")).committed

    def fenced(producer: Producer) -> None:
        producer.end()
        unfit.append(SettingsError("half written"))
        raise FATAL

    broker.script["commit"] = [fenced]
    broker.script["init"] = [lambda _: unfit.append(SettingsError("half written"))]
    assert transactor.run(job(b"b", at=6)).committed
    assert (broker.committed, unfit) == ([b"a", b"b"], [])


def test_closed_it_waits_no_longer_for_files(broker: Broker) -> None:
    def make() -> Producer:
        raise SettingsError("half written")

    transactor = Transactor(make, broker.places)
    transactor.close()
    with pytest.raises(SettingsError):
        transactor.run(job(b"a"))
