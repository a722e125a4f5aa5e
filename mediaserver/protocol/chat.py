"""Chat: what is said, and a page of what was said."""

from typing import Annotated, Literal

from pydantic import Field

from mediaserver.protocol.base import Inbound, Wire
from mediaserver.protocol.rooms import MAX_CHAT_CHARACTERS, MAX_MENTIONS, Id


class ChatSend(Inbound):
    """Say something to the room. Answered by `ack` once it is kept, if it has an `id`."""

    type: Literal["chat.send"]
    text: Annotated[str, Field(min_length=1, max_length=MAX_CHAT_CHARACTERS)]
    id: Annotated[str, Field(max_length=64)] | None = None
    """The client's own id, returned in `chat`. Sent again within ten minutes, it is not doubled."""
    reply_to: Id | None = None
    """Message id."""
    mentions: Annotated[tuple[Id, ...], Field(max_length=MAX_MENTIONS)] = ()
    """Member ids."""


class Chat(Wire):
    """Somebody said something. Show `name` and `text` as text, never as markup."""

    type: Literal["chat"] = "chat"
    seq: int
    id: str
    client_id: str | None = None
    member_id: str
    name: str
    text: str
    sent_at: float
    """Unix seconds."""
    reply_to: str | None = None
    """Id of the message that this answers."""
    mentions: tuple[str, ...] = ()
    """Member ids."""
    edited_at: float | None = None
    """Unix seconds of the last change."""
    reactions: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Emoji to member ids."""


class ChatPage(Wire):
    """GET /api/v1/rooms/{room}/chat: messages in their order."""

    messages: tuple[Chat, ...]
    more: bool
    """Whether there are older ones: ask with `before` the first one's id."""
