"""Reference pages made from the code: `python -m workers.docs [--check]`, in a clone of the repository.

docs/reference/commands.md   from the command line
docs/reference/settings.md   from the settings tree
docs/reference/topics.md     from schemas/topics.yaml
"""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Iterator, Mapping
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from typing import Final

import click

from schemas.topics import Topic, load_topics
from workers.cli import rsafe
from workers.settings import PREFIX, SettingField, Settings, setting_fields

REFERENCE: Final = Path(__file__).resolve().parents[1] / "docs" / "reference"
_NOTE: Final = "<!-- Made by `python -m workers.docs`; do not edit. -->\n\n"
_SETTINGS_INTRODUCTION: Final = """# Settings

Strongest first: the environment (`RSAFE_<GROUP>__<NAME>`), the YAML file that `RSAFE_SETTINGS_FILE` names,
the defaults. In the file the groups are keys and the names stand below them in lower case:

```yaml
kafka:
  bootstrap_servers: broker-1:9092,broker-2:9092
```

A secret stands in its variable or in the file that `<VARIABLE>_FILE` names, never in the YAML file; a secret
that is given in both ways is refused. Changed files of passwords and certificates are used without a restart
([Secure the links](../how-to/secure-the-links.md)).

Three more variables are known: `RSAFE_SETTINGS_FILE`, `RSAFE_LOCAL_FOLDER` (the folder of `rsafe local`) and
`RSAFE_TEST_DATA` (a folder for the tests). Any other variable with the prefix `RSAFE_` is refused at start.
`rsafe settings` prints what is in force, with asterisks for secrets.
"""
_TOPICS_INTRODUCTION: Final = """# Topics

`rsafe topics create` makes those that are absent and never changes one that exists; `--planned` makes the
planned ones, too. Partitions and copies come from `RSAFE_KAFKA__PARTITIONS` and
`RSAFE_KAFKA__REPLICATION_FACTOR`. The same contracts as an AsyncAPI 3 document: `schemas/asyncapi.yaml`.
Fields: [Wire schemas](wire-schemas.md).

The key of a record about a conversation is `<tenant>/<conversation>`, where `%` is written `%25` and `/` is
written `%2F`. Producers other than `rsafe produce` choose the partitioner `murmur2_random` (Java clients'
default).
"""
_COMMANDS_INTRODUCTION: Final = """# Commands

Every command takes its settings from the environment ([Settings](settings.md)). What their exit codes mean:
[Exit codes](exit-codes.md).
"""


def pages() -> dict[Path, str]:
    """Text of each page, by its path."""
    return {
        REFERENCE / "commands.md": _NOTE + _COMMANDS_INTRODUCTION + "".join(_commands(rsafe, "rsafe", 2)),
        REFERENCE / "settings.md": _NOTE + _SETTINGS_INTRODUCTION + "".join(_settings(setting_fields())),
        REFERENCE / "topics.md": _NOTE + _TOPICS_INTRODUCTION + "".join(map(_topic, load_topics())),
    }


def stale(files: Mapping[Path, str]) -> list[Path]:
    """The paths whose content is not the given text."""
    return [
        path for path, text in files.items() if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]


def main(arguments: list[str]) -> int:
    """Write the pages; with `--check` write nothing and return 1 when one is stale."""
    files = pages()
    changed = stale(files)
    for path in changed:
        if "--check" in arguments:
            sys.stderr.write(f"{path.name} is stale; run `python -m workers.docs`\n")
        else:
            path.write_text(files[path], encoding="utf-8")
    return 1 if changed and "--check" in arguments else 0


def _settings(fields: list[SettingField]) -> Iterator[str]:
    for group, members in groupby(fields, key=lambda field: field.path[0]):
        yield f"\n## {group.capitalize()}\n\n| Variable | Type | Default | Meaning |\n|---|---|---|---|\n"
        for field in members:
            kind = field.type.replace(" | ", " or ")
            meaning = field.description + (" *(secret)*" if field.secret else "")
            yield f"| `{field.variable}` | {kind} | {_default(field.default)} | {_cell(meaning)} |\n"


def _default(value: object) -> str:
    return "none" if value is None else "empty" if value == "" else f"`{value}`"


def _topic(topic: Topic) -> str:
    planned = " *Planned: nothing of this version writes or reads it.*" if topic.planned else ""
    value = {None: "not fixed yet", "bytes": "the original bytes", "internal": "the app's own"}.get(
        topic.value, f"`{topic.value}`"
    )
    headers = {
        "written": "CloudEvents 1.0 (binary mode); `traceparent` of the event, or of our last span",
        "original": "CloudEvents 1.0 (binary mode), without a cause",
        "understood": "`ce_id` and `traceparent` are passed on when present",
        None: f"those of the record, and `{topic.headers}` with one header per field",
    }[topic.cloudevents]
    if topic.headers is None and topic.cloudevents is None:
        headers = "none"
    setting = f"`{PREFIX}{topic.setting.replace('.', '__').upper()}`" if topic.setting else "none"
    rows = [
        ("Written by", _names(topic.writers)),
        ("Read by", _names(topic.readers)),
        ("Key", topic.key),
        ("Value", value),
        ("Headers", headers),
        ("Named by", setting),
        ("Configuration", ", ".join(f"`{name}={text}`" for name, text in topic.config.items())),
        ("Kept", _kept(topic)),
    ]
    if not topic.planned:
        partitions = Settings().kafka.partitions
        rows.append(("Partitions", f"{partitions}, unless the setting or `--partitions` says otherwise"))
    lines = "".join(f"| {name} | {_cell(text)} |\n" for name, text in rows)
    return f"\n## {topic.name}\n\n{topic.purpose}{planned}\n\n| | |\n|---|---|\n{lines}"


def _kept(topic: Topic) -> str:
    if "retention.ms" not in topic.config:
        return "the newest record of each key"
    return f"{timedelta(milliseconds=int(topic.config['retention.ms'])).days} days"


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" if name.startswith("rsafe ") else name for name in names)


def _commands(group: click.Group, path: str, level: int) -> Iterator[str]:
    context = click.Context(group, info_name=path)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield _command(command, f"{path} {name}", level)
        if isinstance(command, click.Group):
            yield from _commands(command, f"{path} {name}", level + 1)


def _command(command: click.Command, path: str, level: int) -> str:
    usage = " ".join(command.collect_usage_pieces(click.Context(command, info_name=path)))
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    text = "\n\n".join(map(_unwrapped, paragraphs))
    parts = [f"\n{'#' * level} {path}\n\n```\n{path} {usage}\n```\n\n{text}\n"]
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    if options:
        parts.append("\n| Option | Meaning |\n|---|---|\n")
        parts.extend(_option(option) for option in options)
    return "".join(parts)


def _unwrapped(paragraph: str) -> str:
    # `\b` marks a paragraph whose lines click leaves as they are: an example.
    if paragraph.startswith("\b"):
        return f"```\n{textwrap.dedent(paragraph.removeprefix(chr(8))).strip(chr(10))}\n```"
    return " ".join(paragraph.split())


def _option(option: click.Option) -> str:
    metavar = "" if option.is_flag else f" {option.make_metavar(click.Context(click.Command('rsafe')))}"
    metavar = metavar.removesuffix(" RANGE")  # the bounds follow in words
    names = " / ".join(f"`{name}{metavar}`" for name in [*option.opts, *option.secondary_opts])
    default = ""
    if option.show_default and option.default is not None:
        default = f" Default: `{option.default}`."
    required = " Required." if option.required else ""
    meaning = _cell((option.help or "").strip() + _bounds(option.type) + default + required).strip()
    return f"| {_cell(names)} | {meaning} |\n"


def _bounds(kind: object) -> str:
    if not isinstance(kind, click.IntRange | click.FloatRange):
        return ""
    bounds = []
    if kind.min is not None:
        bounds.append(f"{'more than' if kind.min_open else 'at least'} {kind.min:g}")
    if kind.max is not None:
        bounds.append(f"{'less than' if kind.max_open else 'at most'} {kind.max:g}")
    return f" {', '.join(bounds).capitalize()}." if bounds else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
