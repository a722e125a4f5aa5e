"""The base of all wire models: frozen, closed to unknown fields where clients write them."""

from pydantic import BaseModel, ConfigDict


class Wire(BaseModel):
    """A message that the server writes."""

    model_config = ConfigDict(
        frozen=True, use_attribute_docstrings=True, json_schema_serialization_defaults_required=True
    )


class Inbound(BaseModel):
    """A message that a client writes: an unknown field is an error, so typos do not pass."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
