"""The base of all wire models: frozen, closed to unknown fields where clients write them."""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, PrivateAttr


class Wire(BaseModel):
    """A message that the server writes."""

    model_config = ConfigDict(
        frozen=True, use_attribute_docstrings=True, json_schema_serialization_defaults_required=True
    )
    _text: str | None = PrivateAttr(None)

    def wire_text(self) -> str:
        """Return the message as JSON; written once, however many are sent it."""
        if self._text is None:
            self._text = self.model_dump_json()
        return self._text

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with some fields changed; its JSON is written anew."""
        copy = super().model_copy(update=update, deep=deep)
        copy._text = None
        return copy

    def sent_as(self, text: str) -> Self:
        """Take `text` for this message's JSON: it was read from it. Returns self."""
        self._text = text
        return self


class Inbound(BaseModel):
    """A message that a client writes: an unknown field is an error, so typos do not pass."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
