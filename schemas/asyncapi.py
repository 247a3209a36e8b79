"""AsyncAPI 3 document of the topics and their records, from `topics.yaml` and the structs."""

from __future__ import annotations

from typing import Any, Final

from schemas.dead_letter import HEADER_PREFIX
from schemas.json_schema import NOUNS, Noun, wire_schema
from schemas.topics import Topic

SCHEMA_FORMAT: Final = "application/schema+json;version=2020-12"
_KAFKA_BINDING: Final = "0.5.0"
# header → meaning, of a record that we write
_CLOUDEVENTS: Final = {
    "ce_specversion": "1.0",
    "ce_id": "id of the record's content: its `decision_id`, `release_id` or `escalation_id`",
    "ce_type": "kind of content, with the version of its schema",
    "ce_source": "which service wrote it",
    "ce_causationid": "`ce_id` of the event that led to it, else the `event_id`",
    "content-type": "`application/json`",
}
_ORIGINAL: Final = {name: text for name, text in _CLOUDEVENTS.items() if name != "ce_causationid"}
_TRACEPARENT: Final = {"traceparent": "W3C trace context, passed on from the event"}
_BY_NAME: Final = {noun.name: noun for noun in NOUNS}


def asyncapi_document(topics: tuple[Topic, ...]) -> dict[str, Any]:
    """The document, from the product's point of view: what its worker and commands receive and send."""
    used = [topic for topic in topics if not topic.planned]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "rsafe-stream",
            "version": "1",
            "description": "Chat events in, auditable moderation decisions out.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {_identifier(topic): _channel(topic) for topic in topics},
        "operations": {_operation_name(topic): _operation(topic) for topic in used},
        "components": {"messages": {_identifier(topic): _message(topic) for topic in topics}},
    }


def _channel(topic: Topic) -> dict[str, Any]:
    name = _identifier(topic)
    planned = " Planned: nothing of this version writes or reads it." if topic.planned else ""
    return {
        "address": topic.name,
        "title": topic.name,
        "description": (
            f"{topic.purpose}{planned} Written by: {', '.join(topic.writers)}. "
            f"Read by: {', '.join(topic.readers)}."
        ),
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
        "bindings": {
            "kafka": {"topicConfiguration": _configuration(topic), "bindingVersion": _KAFKA_BINDING}
        },
    }


def _configuration(topic: Topic) -> dict[str, Any]:
    values: dict[str, Any] = {
        name: int(value) if value.isdigit() else value for name, value in topic.config.items()
    }
    values["cleanup.policy"] = topic.config["cleanup.policy"].split(",")
    return values


def _operation_name(topic: Topic) -> str:
    name = _identifier(topic)
    return f"{'receive' if _received(topic) else 'send'}{name[:1].upper()}{name[1:]}"


def _operation(topic: Topic) -> dict[str, Any]:
    name = _identifier(topic)
    return {
        "action": "receive" if _received(topic) else "send",
        "channel": {"$ref": f"#/channels/{name}"},
        "messages": [{"$ref": f"#/channels/{name}/messages/{name}"}],
    }


def _received(topic: Topic) -> bool:
    apps = {"moderation worker", "conduct app"}
    ours = [name for name in topic.writers if name in apps or name.startswith("rsafe ")]
    # Commands write events and reviews, too, in the place of chat systems and review tools.
    return not ours or (not apps.isdisjoint(topic.readers) and apps.isdisjoint(topic.writers))


def _message(topic: Topic) -> dict[str, Any]:
    message: dict[str, Any] = {
        "name": topic.name,
        "summary": topic.purpose,
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": topic.key},
                "bindingVersion": _KAFKA_BINDING,
            }
        },
    }
    if topic.headers is not None:
        message["headers"] = _headers(_BY_NAME[topic.headers])
    elif topic.cloudevents == "written":
        message["headers"] = _texts({**_CLOUDEVENTS, **_TRACEPARENT}, [*_CLOUDEVENTS])
    elif topic.cloudevents == "original":
        message["headers"] = _texts(_ORIGINAL, [*_ORIGINAL])
    elif topic.cloudevents == "understood":
        message["headers"] = _texts({"ce_id": "kept as the cause of what follows", **_TRACEPARENT}, [])
    if topic.value == "bytes":
        message["contentType"] = "application/octet-stream"
    elif topic.value == "internal":
        message["contentType"] = "application/json"
    elif topic.value is not None:
        noun = _BY_NAME[topic.value]
        message["payload"] = {"schemaFormat": SCHEMA_FORMAT, "schema": {"$ref": f"./wire/{noun.file_name}"}}
    return message


def _headers(noun: Noun) -> dict[str, Any]:
    """The struct's fields as headers: text, with the struct's choices of words."""
    schema = wire_schema(noun)
    properties: dict[str, Any] = {}
    for name, field in schema["properties"].items():
        kept = {key: field[key] for key in ("description", "enum") if key in field}
        properties[_header(name)] = {"type": "string", **kept}
    required = [_header(name) for name in schema["required"]]
    return {"type": "object", "properties": properties, "required": required}


def _texts(meanings: dict[str, str], required: list[str]) -> dict[str, Any]:
    properties = {name: {"type": "string", "description": text} for name, text in meanings.items()}
    return {"type": "object", "properties": properties, **({"required": required} if required else {})}


def _header(field: str) -> str:
    return HEADER_PREFIX + field.replace("_", "-")


def _identifier(topic: Topic) -> str:
    first, *others = topic.name.replace("-", ".").split(".")
    return first + "".join(part.capitalize() for part in others)
