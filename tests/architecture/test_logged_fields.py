"""What can stand in the log: every line is a constant sentence with allowed fields beside it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEVELS = frozenset({"debug", "info", "warning", "error", "critical", "exception", "log", "msg"})
# Names under which a logger is held, and what hands a sentence on to one.
LOGGERS = frozenset({"_log", "log", "logger", "_logger", "LOGGER", "logging"})
HANDED_ON = frozenset({"say", "warn"})
TELLERS = frozenset({"telemetry", "_telemetry"})
# Ids, counts, times, closed sets, names of code, and sentences of our own errors (`why`).
FIELDS = frozenset(
    {
        "action", "after_s", "asked", "deaths_alone", "decision_id", "error", "event_id", "events", "field",
        "fingerprint", "health_port", "link", "log_level", "offset", "operation", "outcome", "partition",
        "partitions", "pause_s", "places", "policies", "reason", "records", "remembered", "scores",
        "seconds", "server", "spans", "status", "total_ms", "trace_id", "trusted_keys", "waiting_for",
        "where", "why",
    }
)  # fmt: skip
CLIENT_VALUES = frozenset({"error.name()", "what.reason", "result.why"})
# What an expression beside a sentence must not reach into.
TEXTS = frozenset(
    {
        "text", "rationale", "author", "value", "context", "turns", "definition", "title", "exceptions",
        "examples", "note", "content", "prompt", "token_ids", "message", "headers", "key",
    }
)  # fmt: skip


def calls(tree: ast.AST) -> Iterator[tuple[ast.Call, bool]]:
    """Calls that write a line; and whether by way of a method that hands a sentence on."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        holder = ast.unparse(node.func.value)
        last = holder.rpartition(".")[2]
        if node.func.attr in HANDED_ON and last in TELLERS:
            yield node, True
        elif node.func.attr in LEVELS and (
            last in LOGGERS or "get_logger(" in holder or "getLogger(" in holder
        ):
            yield node, False


def faults(source: str) -> list[str]:
    tree = ast.parse(source)
    handing_on = {
        id(call)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef) and function.name in HANDED_ON
        for call in ast.walk(function)
        if isinstance(call, ast.Call)
    }
    return [
        f"line {call.lineno}: {fault}"
        for call, told in calls(tree)
        if id(call) not in handing_on
        for fault in _faults_of(call, told=told)
    ]


def _faults_of(call: ast.Call, *, told: bool) -> Iterator[str]:
    if not call.args or not _constant(call.args[0], told=told):
        yield "expected one constant sentence"
    for value in call.args[1:]:
        # Of the Kafka client's own logger, whose lines go out before a log is set up as well.
        if ast.unparse(call.func) != "LOGGER.warning" or ast.unparse(value) not in CLIENT_VALUES:
            yield f"{ast.unparse(value)}: expected a field"
    for keyword in call.keywords:
        if keyword.arg not in FIELDS:
            yield f"field {keyword.arg}: not an allowed one"
        reached = {node.attr for node in ast.walk(keyword.value) if isinstance(node, ast.Attribute)}
        if reached & TEXTS:
            yield f"field {keyword.arg}: reaches into {', '.join(sorted(reached & TEXTS))}"


def _constant(node: ast.expr, *, told: bool) -> bool:
    """A text; or for the operator's lines one whose holes are constants of the module."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str)
    return (
        told
        and isinstance(node, ast.JoinedStr)
        and all(
            isinstance(part, ast.Constant)
            or (
                isinstance(part, ast.FormattedValue)
                and isinstance(part.value, ast.Name)
                and part.value.id.isupper()
            )
            for part in node.values
        )
    )


@pytest.mark.parametrize("package", ["guard", "workers", "schemas"])
def test_every_line_of_the_log_is_a_constant_sentence_with_allowed_fields(package: str) -> None:
    found = {
        f"{path.relative_to(ROOT)}: {fault}"
        for path in (ROOT / package).rglob("*.py")
        for fault in faults(path.read_text(encoding="utf-8"))
    }
    assert not found


def test_the_lines_of_the_worker_are_seen_by_this_test() -> None:
    seen = sum(
        len(list(calls(ast.parse(path.read_text(encoding="utf-8")))))
        for path in (ROOT / "workers").rglob("*.py")
    )
    assert seen > 25


@pytest.mark.parametrize(
    "line",
    [
        'self._log.info(f"judged {event.message.text}")',
        'self._log.info("judged %s", text)',
        "logger.warning(str(error))",
        'self._log.info("Judged.", text=text)',
        'self._log.info("Judged.", reason=event.message.text)',
        'self._log.info("Judged.", **facts)',
        'telemetry.say(f"judged {text}")',
        'structlog.get_logger("rsafe").error(sentence)',
        'logging.getLogger("rsafe").info("a %s", b)',
        'LOGGER.warning("a %s", event.message.text)',
    ],
)
def test_a_line_that_could_show_a_text_is_found(line: str) -> None:
    assert faults(line)


def test_what_is_logged_by_print_or_traceback_is_nothing() -> None:
    """In what runs inside a worker; commands print for the one who called them."""
    for folder in ("workers/moderation", "workers/stream", "workers/adapters", "guard/serving"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    name = ast.unparse(node.func)
                    assert name not in ("print", "traceback.print_exc", "warnings.warn"), path
