"""From decoded JSON to dataclasses, with the types checked. Pure."""

import dataclasses
import functools
import types
import typing
from collections.abc import Hashable
from typing import Any, Literal, TypeVar

from mediaserver_client.errors import ProtocolError

T = TypeVar("T")


@functools.cache
def _hints(kind: Hashable) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def from_json(kind: type[T], data: Any) -> T:
    """Build the dataclass `kind` from decoded JSON; unknown fields are ignored.

    Raises ProtocolError.
    """
    if not isinstance(data, dict):
        raise ProtocolError(f"{kind.__name__} should be an object, not {type(data).__name__}")
    hints = _hints(typing.cast(Hashable, kind))
    values = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]  # every kind is a dataclass
        if field.name in data:
            where = f"{kind.__name__}.{field.name}"
            values[field.name] = _value(hints[field.name], data[field.name], where)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ProtocolError(f"{kind.__name__} without {field.name}")
    return kind(**values)


def _value(hint: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if origin is types.UnionType or origin is typing.Union:
        if value is None:
            return None
        [hint] = [part for part in typing.get_args(hint) if part is not type(None)]
        return _value(hint, value, where)
    if origin is tuple and isinstance(value, list):
        item = typing.get_args(hint)[0]
        return tuple(_value(item, each, where) for each in value)
    if origin is dict and isinstance(value, dict):
        item = typing.get_args(hint)[1]
        return {str(name): _value(item, each, where) for name, each in value.items()}
    if origin is Literal and isinstance(value, str):
        return value  # a newer server may know more of them
    if dataclasses.is_dataclass(hint):
        return from_json(typing.cast(type[Any], hint), value)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint in (str, bool) and isinstance(value, hint):
        return value
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ProtocolError(f"{where} has a value of the wrong type ({type(value).__name__})")
