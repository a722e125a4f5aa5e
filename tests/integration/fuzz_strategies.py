"""Hypothesis strategies for what clients send: by the wire schemas, and against them."""

import json
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from pydantic import TypeAdapter

from mediaserver.protocol.messages import ClientMessage

Json = dict[str, Any]
Strategy = st.SearchStrategy[Any]

SCHEMA: Json = TypeAdapter(ClientMessage).json_schema()
TYPES: dict[str, str] = SCHEMA["discriminator"]["mapping"]
"""Type of a message to its schema."""

IDS = ("$self", "$witness", "$other", "$message", "$item", "m_nobody")
"""Stand-ins for what there is in the room; the test puts the real ids in."""

NASTY_TEXT = (
    "",
    "\x00",
    "a\x00b",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "‮\u2066‏",
    "\u200b\u200d\ufeff",
    "𝕳\U0010ffff\ufffe",
    "Z͑ͫ̓a̴l̷g̸o" * 3,
    "\r\nSet-Cookie: a=b",
    "{room}}{",
    "../../etc/passwd",
    "'; DROP TABLE users; --",
    "%s%n%x",
    "NaN",
    "-1",
)
NASTY_NUMBERS = (0, -0.0, -1, 2**31, 2**53 + 1, 2**63, -(2**63) - 1, 10**30, 1e308, -1e308, 5e-324)
NASTY_JSON = ("NaN", "Infinity", "-Infinity", "1e400", "-1e400", '"\\ud800"', '"\\udfff\\ud800"')
"""What is no JSON, or none that can be held; put in place of a value as it is."""

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.sampled_from(NASTY_TEXT)
ids = st.sampled_from(IDS)
scalars: Strategy = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(NASTY_NUMBERS)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
anything: Strategy = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4)
)


# ---- by the schema -------------------------------------------------------------------------


def by_schema(schema: Json, field: str = "") -> Strategy:
    """Instances of `schema`, as far as JSON Schema says."""
    if "$ref" in schema:
        return by_schema(SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]])
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "anyOf" in schema:
        return st.one_of([by_schema(part, field) for part in schema["anyOf"]])
    make: dict[str, Callable[[Json, str], Strategy]] = {
        "object": _objects,
        "array": _arrays,
        "string": _strings,
        "integer": _integers,
        "number": _floats,
        "boolean": lambda _schema, _field: st.booleans(),
        "null": lambda _schema, _field: st.none(),
    }
    return make[schema["type"]](schema, field)


def _objects(schema: Json, _field: str) -> Strategy:
    required = set(schema.get("required", ()))
    fields = {name: by_schema(part, name) for name, part in schema["properties"].items()}
    return st.fixed_dictionaries(
        {name: part for name, part in fields.items() if name in required},
        optional={name: part for name, part in fields.items() if name not in required},
    )


def _arrays(schema: Json, field: str) -> Strategy:
    most = min(schema.get("maxItems", 5), 20)
    return st.lists(by_schema(schema["items"], field.removesuffix("s")), max_size=most)


def _strings(schema: Json, field: str) -> Strategy:
    if "pattern" in schema:
        return st.from_regex(schema["pattern"], fullmatch=True)
    if schema.get("format") == "uri":
        return st.sampled_from(
            [
                "https://example.org/a.mp4",
                "http://127.0.0.1:1/b.m3u8?x=<y>#z",
                "https://ü.example/ä",
            ]
        )
    least, most = schema.get("minLength", 0), schema.get("maxLength", 200)
    fitting = texts.filter(lambda text: least <= len(text) <= most)
    longest = st.sampled_from(["x", "ä", "😀", "\x00", "<"]).map(lambda c: c * min(most, 8192))
    if field.endswith("_id") or field in ("reply_to", "mention"):
        return ids | fitting
    return fitting | longest


def _integers(schema: Json, _field: str) -> Strategy:
    return st.integers(schema.get("minimum"), schema.get("maximum"))


def _floats(schema: Json, _field: str) -> Strategy:
    return st.floats(
        schema.get("minimum", schema.get("exclusiveMinimum")),
        schema.get("maximum"),
        exclude_min="exclusiveMinimum" in schema,
        allow_nan=False,
        allow_infinity=False,
    )


def valid(types: tuple[str, ...]) -> Strategy:
    """Messages of these types, each as likely, as objects."""
    refs = {name: {"$ref": TYPES[name]} for name in types}
    return st.sampled_from(sorted(types)).flatmap(lambda name: by_schema(refs[name]))


# ---- against the schema --------------------------------------------------------------------


@st.composite
def spoiled(draw: st.DrawFn, messages: Strategy) -> str:
    """A message with something wrong in it, as text."""
    message: Json = dict(draw(messages))
    name = draw(st.sampled_from(sorted(message)))
    match draw(st.integers(0, 6)):
        case 0:
            del message[name]
        case 1:
            message[draw(texts)] = draw(anything)
        case 2:
            message[name] = draw(anything)
        case 3:
            message[name] = draw(st.sampled_from(("x", "😀", "\x00"))) * draw(
                st.sampled_from((65, 2001, 20_000))
            )
        case 4:
            message[name] = "@here@"
            return dumps(message).replace('"@here@"', draw(st.sampled_from(NASTY_JSON)), 1)
        case 5:
            message[name] = "@here@"
            deep = draw(st.sampled_from((100, 1000, 20_000)))
            opened, closed = draw(st.sampled_from((("[", "]"), ('{"a":', "}"))))
            return dumps(message).replace('"@here@"', opened * deep + "1" + closed * deep, 1)
        case _:
            text = dumps(message)
            return text[: draw(st.integers(0, len(text)))]
    return dumps(message)


def dumps(message: Json) -> str:
    """As JSON that may hold any character."""
    return json.dumps(message, ensure_ascii=False)


def messages(types: tuple[str, ...]) -> Strategy:
    """What is sent over a WebSocket: text (good and bad) or bytes."""
    good = valid(types)
    return st.one_of(
        good.map(dumps),
        good.map(dumps),
        spoiled(good),
        anything.map(lambda value: json.dumps(value, ensure_ascii=False)),
        st.binary(max_size=400),
    )


def conversations(types: tuple[str, ...], most: int = 40) -> Strategy:
    """Messages in any order, some of them again."""
    return st.lists(messages(types), min_size=most // 4, max_size=most).flatmap(
        lambda sent: st.lists(st.sampled_from(sent), max_size=8).map(lambda again: sent + again)
    )
