"""Writes the chart's README, with every value, from values.yaml and values.schema.json.

    python helm/values_readme.py            rewrites it
    python helm/values_readme.py --check    exit code 1 when it is stale

The worker's settings are counted, not listed: docs/reference/settings.md lists them.
"""  # noqa: INP001 (a script beside the chart, not a package)

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).resolve().parents[1]
CHART: Final = ROOT / "helm" / "rsafe-stream"
README: Final = CHART / "README.md"
NOTE: Final = "<!-- Made by `python helm/values_readme.py`; do not edit. -->"
ABSENT: Final = object()
# A longer default is shown as what it is, a map or a list: values.yaml has it.
LONGEST_DEFAULT: Final = 60
INTRODUCTION: Final = """# rsafe-stream {version}

{description}

```sh
helm install moderation helm/rsafe-stream --values my-values.yaml
```

[Deploy with Helm](../../docs/how-to/deploy-with-helm.md) says how. `ci/` has value files to begin with:

{files}

## Values

Every key is described in `values.schema.json`, and Helm refuses an unknown one. Of maps whose keys are yours
the row is the map's.
"""


def page() -> str:
    """The whole README."""
    schema: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    values: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    chart: dict[str, Any] = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    parts = [
        NOTE,
        INTRODUCTION.format(
            version=chart["version"], description=chart["description"], files="\n".join(_files())
        ),
    ]
    groups = {name: part for name, part in schema["properties"].items() if name in values}
    single = [name for name, part in groups.items() if not part.get("properties")]
    parts.append(_table((name, groups[name], values[name]) for name in single))
    for name, part in groups.items():
        if name not in single:
            rows = _settings(part, values[name]) if name == "settings" else _rows(name, part, values[name])
            text = f"### `{name}`\n\n{_prose(part)}\n"
            if name == "settings":
                text += f"\n{_settings_note(part)}\n"
            parts.append(f"{text}\n{_table(rows)}")
    return "\n".join(parts)


def _files() -> Iterator[str]:
    for file in sorted(CHART.glob("ci/*-values.yaml")):
        comment = file.read_text(encoding="utf-8").splitlines()[0].removeprefix("#").strip()
        yield f"- [`{file.name}`](ci/{file.name}): {comment}"


def _settings_note(schema: dict[str, Any]) -> str:
    count = sum(len(group["properties"]) for group in schema["properties"].values())
    return (
        f"Any of the {count} settings that are no secret, by group and name; "
        "[Settings](../../docs/reference/settings.md) lists them. The chart sets:"
    )


def _settings(schema: dict[str, Any], values: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], Any]]:
    for group, names in values.items():
        for name, value in names.items():
            yield f"settings.{group}.{name}", schema["properties"][group]["properties"][name], value


def _rows(path: str, schema: dict[str, Any], value: Any) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """The described leaves below, with their defaults; a described group without leaves is one."""
    for name, part in schema["properties"].items():
        below = value.get(name, ABSENT) if isinstance(value, dict) else ABSENT
        if part.get("properties"):
            yield from _rows(f"{path}.{name}", part, below)
        else:
            yield f"{path}.{name}", part, below


def _table(rows: Iterator[tuple[str, dict[str, Any], Any]]) -> str:
    lines = ["| Value | Type | Default | Meaning |", "|---|---|---|---|"]
    for path, schema, value in rows:
        lines.append(f"| `{path}` | {_type(schema)} | {_default(value)} | {_prose(schema)} |")
    return "\n".join([*lines, ""])


def _prose(schema: dict[str, Any]) -> str:
    """The description, with nothing in it that Markdown takes for a tag or a cell's end."""
    return str(schema["description"]).replace("<", "&lt;").replace("|", "\\|")


def _type(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " or ".join(f"`{json.dumps(word)}`" if word == "" else f"`{word}`" for word in schema["enum"])
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    for junctor in ("anyOf", "oneOf"):
        if junctor in schema:
            return " or ".join(dict.fromkeys(_type(part) for part in schema[junctor]))
    kind = schema.get("type", "any")
    words = " or ".join(kind) if isinstance(kind, list) else str(kind)
    bounds = (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
    limits = [f"{sign} {schema[key]}" for key, sign in bounds if key in schema]
    if kind == "array" and isinstance(schema.get("items"), dict):
        return f"list of {_type(schema['items'])}"
    return " ".join([{"object": "map", "array": "list"}.get(words, words), *limits])


def _default(value: Any) -> str:
    if value is ABSENT:
        return "not set"
    text = json.dumps(value, ensure_ascii=False)
    if len(text) > LONGEST_DEFAULT and isinstance(value, dict | list):
        return "see `values.yaml`"
    return f"`{text}`".replace("|", "\\|")


def main(arguments: list[str]) -> int:
    """Rewrite the file, or compare it when `--check` is given; the exit code."""
    fresh = page()
    if "--check" in arguments:
        if README.exists() and README.read_text(encoding="utf-8") == fresh:
            return 0
        sys.stderr.write("helm/rsafe-stream/README.md is stale: run `python helm/values_readme.py`\n")
        return 1
    README.write_text(fresh, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
