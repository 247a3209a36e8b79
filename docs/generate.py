"""Writes the generated pages here: `python docs/generate.py [--check]`.

reference/wire-schemas.md   from schemas/wire/*.schema.json
reference/load-report.md    from the structs of workers/load/figures.py
"""  # noqa: INP001 (a script beside the pages, not a package)

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from schemas.json_schema import Noun, wire_schema  # noqa: E402 (the repository's root comes first)
from workers import metrics as worker_metrics  # noqa: E402
from workers.conduct.metrics import ConductMetrics  # noqa: E402
from workers.load.figures import LoadReport  # noqa: E402

REFERENCE: Final = ROOT / "docs" / "reference"
NOTE: Final = "<!-- Made by `python docs/generate.py`; do not edit. -->\n"

# noun → where it travels
NOUNS: Final = {
    "event": "Value of a record of `chat.events`. Unknown fields are ignored.",
    "decision": "Value of a record of `moderation.decisions`; the record's key is the event's.",
    "dead_letter": (
        "Headers of a record of `moderation.dead-letters`, each with the prefix `rsafe-` and `-` for `_`. "
        "Key, value and headers of the original record are kept untouched."
    ),
    "policy": (
        "A document of a YAML file. Unknown fields are refused. "
        "[Write a policy](../how-to/write-a-policy.md) has an example."
    ),
    "verdict": "What the verdict cache keeps. It is not published.",
    "review": "Value of a record of `moderation.reviews`; the record's key is the decision id.",
    "escalation": "Value of a record of `moderation.escalations`.",
    "release": "Value of a record of `moderation.checkpoints`; the record's key is the name.",
    "policy_change": (
        "Value of a record of `moderation.policies`; the record's key is tenant (empty for everybody's "
        "policy) and policy id. Unknown fields are refused."
    ),
}
INTRODUCTION: Final = """# Wire schemas

JSON in UTF-8 on every topic. The schemas are JSON Schema 2020-12, generated from the structs in `schemas/`,
and lie in `schemas/wire/`; `schemas/asyncapi.yaml` describes the topics. `schemas/examples/` has good and bad
examples of each, and a test reads all of them.

A new field has a default; a type never changes; a breaking change is `v2` beside `v1`. Readers ignore fields
that they do not know. Fields marked *volatile* may differ between two decisions with one `decision_id`; all
others agree, unless one of the two is unjudged.
"""


def wire_schemas_page() -> str:
    """The page with one table per struct, in the order of `NOUNS`."""
    parts = [NOTE, INTRODUCTION]
    for noun, place in NOUNS.items():
        path = ROOT / "schemas" / "wire" / f"{noun}.v1.schema.json"
        schema = json.loads(path.read_text(encoding="utf-8"))
        parts.append(
            f"\n## {noun.replace('_', ' ').capitalize()}\n\n{place} Schema: `schemas/wire/{path.name}`.\n"
        )
        parts.append(_table(schema))
        for name, part in schema.get("$defs", {}).items():
            if part.get("type") == "object":
                parts.append(f"\n### {name}\n\n{part.get('description', '')}\n")
                parts.append(_table(part))
    return "".join(parts)


LOAD_INTRODUCTION: Final = """# Figures of a load test

What `rsafe load --json FILE` writes ([Load-test your deployment](../how-to/load-test.md)): one JSON object.
Times are milliseconds and rates are per second, unless a name says otherwise. A percentile is the smallest
measured value that so many percent of the values do not exceed, and null where there are too few values for
it: below a hundred for `p99`, below a thousand for `p99_9`. Fields may be added; `form` changes when one
changes its meaning.
"""


def load_report_page() -> str:
    """The page with one table per struct of the figures."""
    schema = wire_schema(Noun("load_report", 1, LoadReport))
    parts = [NOTE, LOAD_INTRODUCTION, _table(schema)]
    for name, part in schema["$defs"].items():
        if part.get("type") == "object":
            parts.append(f"\n## {name}\n\n{part.get('description', '')}\n")
            parts.append(_table(part))
    return "".join(parts)


def _table(schema: dict[str, Any]) -> str:
    rows = ["\n| Field | Type | Required | Meaning |\n|---|---|---|---|\n"]
    required = schema.get("required", [])
    for name, part in schema["properties"].items():
        meaning = _cell(part.get("description", ""))
        if part.get("x-volatile"):
            meaning += " *(volatile)*"
        needed = "yes" if name in required else _default(part)
        rows.append(f"| `{name}` | {_cell(_type(part))} | {needed} | {meaning} |\n")
    return "".join(rows)


def _type(part: dict[str, Any]) -> str:
    if "$ref" in part:
        return str(part["$ref"].rpartition("/")[2])
    if "anyOf" in part:
        return " or ".join(_type(option) for option in part["anyOf"])
    if "enum" in part:
        return ", ".join(f"`{value}`" for value in part["enum"])
    if part.get("type") == "array":
        return f"list of {_type(part['items'])}"
    return str(part.get("type", "any")) + "".join(_bounds(part))


def _bounds(part: dict[str, Any]) -> Iterator[str]:
    if "minimum" in part:
        yield f" ≥ {part['minimum']}"
    if part.get("type") == "number" and "maximum" in part:
        yield f" ≤ {part['maximum']}"
    if part.get("format") == "date-time":
        yield ", a time"


def _default(part: dict[str, Any]) -> str:
    if "default" not in part:
        return "no"
    value = part["default"]
    return "no" if value in (None, [], {}, "") or isinstance(value, dict) else f"no: `{json.dumps(value)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


METRICS_INTRODUCTION: Final = """# Metrics

Served at `/metrics`, on `RSAFE_HEALTH__HOST` and `RSAFE_HEALTH__PORT`, in Prometheus' text form. Labels have
bounded sets of values: no tenant, no conversation, no text. What they are for:
[Watch the service](../operations/observability.md).

| Metric | Kind | Labels | Meaning |
|---|---|---|---|
"""
METRICS_END: Final = """
The process's own, of prometheus-client: `process_cpu_seconds_total`, `process_resident_memory_bytes`,
`process_virtual_memory_bytes`, `process_start_time_seconds`, `process_open_fds`, `process_max_fds`. They are
of the worker's process, not of the child that holds the model.
"""


def metrics_page() -> str:
    """The page with one row per metric, in the order of their declaration."""
    rows = [NOTE, METRICS_INTRODUCTION]
    for row in (*worker_metrics.Metrics().rows, *ConductMetrics().rows):
        labels = "; ".join(_label(label, values) for label, values in row.labels.items())
        rows.append(f"| `{row.name}` | {row.kind} | {labels} | {_cell(row.documentation)} |\n")
    rows.append(METRICS_END)
    return "".join(rows)


def _label(label: str, values: Sequence[str]) -> str:
    if label == "reason":
        return "`reason`, see [Reason codes](reason-codes.md)"
    return f"`{label}`: {', '.join(values)}" if values else f"`{label}`"


def main(arguments: list[str]) -> int:
    """Write the pages; with `--check` write nothing and return 1 when one is stale."""
    pages = {
        REFERENCE / "wire-schemas.md": wire_schemas_page(),
        REFERENCE / "metrics.md": metrics_page(),
        REFERENCE / "load-report.md": load_report_page(),
    }
    changed = [
        path for path, text in pages.items() if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    for path in changed:
        if "--check" in arguments:
            sys.stderr.write(f"{path.name} is stale; run `python docs/generate.py`\n")
        else:
            path.write_text(pages[path], encoding="utf-8")
    return 1 if changed and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
