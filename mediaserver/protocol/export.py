"""The session protocol for other languages: JSON Schema and TypeScript, from the models.

``python -m mediaserver.protocol.export typescript clients/js/types.d.ts`` writes the declarations
that the JavaScript client ships; a unit test fails while the file differs from the models.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import get_args

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, JsonSchemaValue, models_json_schema

from mediaserver.protocol.messages import ClientMessage, ServerMessage
from mediaserver.protocol.videos import VideoList

JsonSchema = Mapping[str, object]

_HTTP_MODELS: tuple[type[BaseModel], ...] = (VideoList,)
"""What clients also read of HTTP's answers."""

_TS_HEADER = """\
// Generated from mediaserver/protocol/messages.py; do not edit. To renew it:
//   python -m mediaserver.protocol.export typescript clients/js/types.d.ts
"""
_TS_SCALARS = {"string": "string", "number": "number", "integer": "number", "boolean": "boolean"}
_WIDTH = 96


def message_models(union: object) -> tuple[type[BaseModel], ...]:
    """Return the models of an annotated union such as `ClientMessage`, as they are written."""
    return get_args(get_args(union)[0])


def json_schema() -> JsonSchemaValue:
    """Return one JSON Schema (draft 2020-12) with every message in ``$defs``.

    What clients write is described as it is read (defaults may be left out), what the server
    writes as it is sent (every field is there).
    """
    inbound, outbound = message_models(ClientMessage), message_models(ServerMessage)
    read: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        (model, "validation") for model in inbound
    ]
    sent: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        (model, "serialization") for model in outbound
    ]
    also: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        (model, "serialization") for model in _HTTP_MODELS
    ]
    refs, schema = models_json_schema(read + sent + also, title="mediaserver session protocol")
    for name, models in (("ClientMessage", read), ("ServerMessage", sent)):
        mapping = {_tag(model): refs[(model, mode)]["$ref"] for model, mode in models}
        schema["$defs"][name] = {
            "oneOf": [{"$ref": ref} for ref in mapping.values()],
            "discriminator": {"propertyName": "type", "mapping": mapping},
        }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def typescript() -> str:
    """Return TypeScript declarations of every message."""
    definitions: dict[str, JsonSchema] = json_schema()["$defs"]
    parts = [_TS_HEADER]
    for name, definition in definitions.items():
        if "oneOf" in definition:
            continue
        parts.append("\n".join(_interface(name, definition)) + "\n")
    for name in ("ClientMessage", "ServerMessage"):
        members = [_type(item) for item in _schemas(definitions[name]["oneOf"])]
        parts.append(f"export type {name} =\n  | " + "\n  | ".join(members) + ";\n")
    return "\n".join(parts)


def _tag(model: type[BaseModel]) -> str:
    tag = get_args(model.model_fields["type"].annotation)[0]
    assert isinstance(tag, str)
    return tag


def _interface(name: str, definition: JsonSchema) -> Iterator[str]:
    yield from _comment(definition.get("description"), indent="")
    yield f"export interface {name} {{"
    required = definition.get("required", ())
    properties = definition.get("properties", {})
    assert isinstance(required, Sequence)
    assert isinstance(properties, Mapping)
    for field, schema in properties.items():
        yield from _comment(schema.get("description"), indent="  ")
        yield f"  readonly {field}{'' if field in required else '?'}: {_type(schema)};"
    yield "}"


def _comment(text: object, indent: str) -> Iterator[str]:
    if not isinstance(text, str):
        return
    if "\n" not in text and len(indent) + len(text) + 7 <= _WIDTH:
        yield f"{indent}/** {text} */"
        return
    yield f"{indent}/**"
    for line in text.splitlines():
        yield f"{indent} * {line}".rstrip()
    yield f"{indent} */"


def _type(schema: object) -> str:
    match schema:
        case {"$ref": str(ref)}:
            return ref.rsplit("/", 1)[1]
        case {"allOf": [only]}:
            return _type(only)
        case {"const": constant}:
            return json.dumps(constant)
        case {"enum": list(values)}:
            return " | ".join(json.dumps(value) for value in values)
        case {"anyOf": options}:
            return " | ".join(_type(option) for option in _schemas(options))
        case {"type": "object", "additionalProperties": values} if values not in (True, False):
            return f"Readonly<Record<string, {_type(values)}>>"
        case {"type": "null"}:
            return "null"
        case {"type": "array", "items": items}:
            inner = _type(items)
            return f"readonly ({inner})[]" if " " in inner else f"readonly {inner}[]"
        case {"type": str(kind)} if kind in _TS_SCALARS:
            return _TS_SCALARS[kind]
    raise TypeError(f"no TypeScript is known for {json.dumps(schema)}")


def _schemas(value: object) -> Sequence[JsonSchema]:
    assert isinstance(value, Sequence)
    return value


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the chosen form to a file or to standard output."""
    parser = argparse.ArgumentParser(
        prog="python -m mediaserver.protocol.export", description=__doc__
    )
    parser.add_argument("form", choices=("json-schema", "typescript"))
    parser.add_argument("file", nargs="?", type=Path, help="where to; standard output if not given")
    chosen = parser.parse_args(arguments)
    text = typescript() if chosen.form == "typescript" else json.dumps(json_schema(), indent=2)
    text = text.rstrip("\n") + "\n"
    if chosen.file is None:
        sys.stdout.write(text)
    else:
        chosen.file.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
