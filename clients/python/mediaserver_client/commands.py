"""What a member can do in a room: chat, playback, the queue, moderation."""

import asyncio
import dataclasses
import itertools
import secrets
from collections.abc import Iterable
from typing import TYPE_CHECKING, Unpack

from mediaserver_client.connection import endpoint
from mediaserver_client.errors import (
    AnswerTimeout,
    ClientError,
    ProtocolError,
    Refused,
    SessionClosed,
)
from mediaserver_client.messages import (
    MAX_CHAT_CHARACTERS,
    Chat,
    ChatSend,
    ErrorMessage,
    ServerMessage,
)
from mediaserver_client.room_commands import (
    Action,
    ChatDelete,
    ChatEdit,
    ChatReact,
    MemberBan,
    MemberKick,
    MemberMute,
    MemberRole,
    MemberUpdate,
    PlaybackCommand,
    QueueAdd,
    QueueMove,
    QueueRemove,
    React,
    RoomCloseCommand,
    RoomCommand,
    RoomUpdate,
    Typing,
)
from mediaserver_client.room_events import Ack
from mediaserver_client.room_types import (
    ItemKind,
    MemberInfo,
    PlaybackBase,
    PlaybackState,
    QueueItem,
    QueueItemNew,
    RoomChange,
    RoomRole,
    SettingChanges,
)
from mediaserver_client.video_types import SignedPlayback, VideoOpen, VideoSource

if TYPE_CHECKING:
    from mediaserver_client.api import Api
    from mediaserver_client.link import Link
    from mediaserver_client.room_state import RoomState

COMMAND_TIMEOUT_S = 10.0
CHAT_TIMEOUT_S = 30.0
"""A message that the connection swallowed is said again within this."""

Member = MemberInfo | str
Message = Chat | str
Item = QueueItem | str


class RoomCommands:
    """The commands of `RoomSession`. Members, messages and items are named by object or by id."""

    api: "Api"
    state: "RoomState"
    _link: "Link"

    def __init__(self) -> None:
        # Ids are unique, for the room remembers those of messages over connections.
        prefix = secrets.token_hex(4)
        self._ids = (f"{prefix}.{number}" for number in itertools.count(1))
        self._answers: dict[str, Ack | VideoSource | ErrorMessage | None] = {}

    # ---- chat ------------------------------------------------------------------------------

    async def chat(
        self,
        text: str,
        *,
        timeout_s: float = CHAT_TIMEOUT_S,
        reply_to: Message | None = None,
        mentions: Iterable[Member] = (),
    ) -> Chat:
        """Say `text` to the room; return it as the room got it.

        Where the connection breaks it is said again, and still comes once. Raises Refused
        (`muted`, `slow_mode`, …), AnswerTimeout.
        """
        if not 1 <= len(text) <= MAX_CHAT_CHARACTERS:
            raise ClientError(f"a chat message has 1 to {MAX_CHAT_CHARACTERS} characters")
        client_id = next(self._ids)
        message = ChatSend(
            id=client_id,
            text=text,
            reply_to=_message_id(reply_to) if reply_to is not None else None,
            mentions=tuple(_member_id(member) for member in mentions),
        )
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    try:
                        await self._ask(message)
                        break
                    except SessionClosed:
                        await self._link.current()
                await self._link.pulse.until(lambda: self._link.over or self._own(client_id))
        except TimeoutError:
            raise AnswerTimeout(f"the room did not get it within {timeout_s:g} s") from None
        said = self._own(client_id)
        if said is None:
            raise self._link.over or SessionClosed("the session is over")
        return said

    def _own(self, client_id: str) -> Chat | None:
        for chat in reversed(self.state.chat.values()):
            if chat.client_id == client_id and chat.member_id == self.state.member_id:
                return chat
        return None

    async def edit_chat(self, message: Message, text: str) -> None:
        """Change a message of one's own, within ten minutes."""
        await self._do(ChatEdit(message_id=_message_id(message), text=text))

    async def delete_chat(self, message: Message) -> None:
        """Delete a message: one's own, or anybody's with the grant `can_moderate`."""
        await self._do(ChatDelete(message_id=_message_id(message)))

    async def react_to(self, message: Message, emoji: str, *, on: bool = True) -> None:
        """Put an emoji to a message, or take it back."""
        await self._do(ChatReact(message_id=_message_id(message), emoji=emoji, on=on))

    async def typing(self, typing: bool = True) -> None:
        """Show, or show no longer, that one is writing; forgotten after 6 s."""
        await (await self._link.current()).send(Typing(typing=typing))

    async def react(self, emoji: str) -> None:
        """Let an emoji float over everybody's player."""
        await (await self._link.current()).send(React(emoji=emoji))

    # ---- oneself ---------------------------------------------------------------------------

    async def rename(self, name: str) -> None:
        """Take another name."""
        await self._do(MemberUpdate(name=name))

    async def set_caption_language(self, language: str) -> None:
        """Ask for captions in this language where they can be had; "" is as spoken."""
        await self._do(MemberUpdate(caption_language=language))

    # ---- playback --------------------------------------------------------------------------

    async def play(self, position_s: float | None = None) -> None:
        """Play. With a new item the room first waits, 8 s at most, until all players are ready."""
        await self._control("play", position_s=position_s)

    async def pause(self) -> None:
        """Pause where playback is now."""
        await self._control("pause")

    async def seek(self, position_s: float) -> None:
        """Go to another place."""
        await self._control("seek", position_s=position_s)

    async def set_rate(self, rate: float) -> None:
        """Play at another speed, 0.25 to 4."""
        await self._control("rate", rate=rate)

    async def next_item(self) -> None:
        """Play the queue's next item."""
        await self._control("next")

    async def play_item(self, item: Item) -> None:
        """Play an item of the queue from its start."""
        await self._control("item", item_id=_item_id(item))

    async def item_ended(self, state: PlaybackState) -> None:
        """Say that the item of this state came to its end: the next one follows, once."""
        base = PlaybackBase(epoch=state.epoch, seq=state.seq)
        await self._do(PlaybackCommand(action="next", base=base, ended=True))

    async def _control(
        self,
        action: Action,
        *,
        position_s: float | None = None,
        rate: float | None = None,
        item_id: str | None = None,
    ) -> None:
        command = PlaybackCommand(action=action, position_s=position_s, rate=rate, item_id=item_id)
        await self._do(command)

    # ---- the queue -------------------------------------------------------------------------

    async def add_to_queue(
        self,
        url: str | None = None,
        *,
        title: str = "",
        kind: ItemKind | None = None,
        video_id: str | None = None,
        member: Member | None = None,
        duration_s: float | None = None,
        at: int | None = None,
    ) -> QueueItem:
        """Put an item into the queue, at its end or at place `at`; return it.

        Name a `url` (HLS if its path ends with .m3u8, else MP4; or say the `kind`), the `video_id`
        of a video of this server, or ``kind="live"`` with the `member` whose broadcast it is.
        """
        if kind is None:
            path = (url or "").partition("?")[0].partition("#")[0].lower()
            kind = "vod" if video_id else "hls" if path.endswith(".m3u8") else "mp4"
        known = {item.item_id for item in self.state.queue}
        item = QueueItemNew(
            kind=kind,
            url=url,
            video_id=video_id,
            member_id=_member_id(member) if member is not None else None,
            title=title,
            duration_s=duration_s,
        )
        await self._do(QueueAdd(item=item, at=at))
        mine = [
            found
            for found in self.state.queue
            if found.item_id not in known and found.added_by == self.state.member_id
        ]
        if not mine:
            raise ClientError("somebody removed the item from the queue at once")
        return mine[-1]

    async def remove_from_queue(self, item: Item) -> None:
        """Take an item out of the queue."""
        await self._do(QueueRemove(item_id=_item_id(item)))

    async def move_in_queue(self, item: Item, to: int) -> None:
        """Move an item to another place."""
        await self._do(QueueMove(item_id=_item_id(item), to=to))

    async def open_item(self, item: Item) -> SignedPlayback:
        """Ask where the media of an item of kind `vod` are; its `url` plays for some minutes.

        Raises Refused (`no_item`, `video_not_ready`, …), AnswerTimeout, SessionClosed.
        """
        asked = VideoOpen(id=next(self._ids), item_id=_item_id(item))
        try:
            async with asyncio.timeout(COMMAND_TIMEOUT_S):
                answer = await self._answer_to(asked)
        except TimeoutError:
            raise AnswerTimeout(
                f"`{asked.TYPE}` was not answered within {COMMAND_TIMEOUT_S:g} s"
            ) from None
        if not isinstance(answer, VideoSource):
            raise ProtocolError(f"`{asked.TYPE}` was answered by something else")
        url = endpoint(self.api.server, answer.source.url)
        return dataclasses.replace(answer.source, url=url)

    # ---- members ---------------------------------------------------------------------------

    async def set_role(self, member: Member, role: RoomRole) -> None:
        """Give somebody another role; `host` hands the room over."""
        await self._do(MemberRole(member_id=_member_id(member), role=role))

    async def mute(
        self, member: Member, *, chat: bool | None = None, publish: bool | None = None
    ) -> None:
        """Take somebody's chat, audio and video, or both; with False give them back."""
        await self._do(MemberMute(member_id=_member_id(member), chat=chat, publish=publish))

    async def kick(self, member: Member, reason: str = "") -> None:
        """Send somebody away, who may come back."""
        await self._do(MemberKick(member_id=_member_id(member), reason=reason))

    async def ban(self, member: Member, reason: str = "", *, duration_s: int | None = None) -> None:
        """Send somebody away and keep it out, for good or for `duration_s`."""
        command = MemberBan(member_id=_member_id(member), reason=reason, duration_s=duration_s)
        await self._do(command)

    async def change_settings(self, **changes: Unpack[SettingChanges]) -> None:
        """Change the room's settings; what is not named stays."""
        await self._do(RoomUpdate(change=RoomChange(**changes)))

    async def close_room(self) -> None:
        """Close the room for all."""
        await self._do(RoomCloseCommand())

    # ---- the work --------------------------------------------------------------------------

    async def _do(self, command: RoomCommand, timeout_s: float = COMMAND_TIMEOUT_S) -> Ack:
        """Send a command, wait until it is done and the room's state shows it."""
        try:
            async with asyncio.timeout(timeout_s):
                ack = await self._ask(dataclasses.replace(command, id=next(self._ids)))
                seq = ack.seq
                if seq is not None and self.state.grants.can_subscribe:
                    await self._link.pulse.until(lambda: self._link.over or self.state.seq >= seq)
                return ack
        except TimeoutError:
            raise AnswerTimeout(
                f"`{command.TYPE}` was not answered within {timeout_s:g} s"
            ) from None

    async def _ask(self, command: RoomCommand | ChatSend) -> Ack:
        """Raises as `_answer_to` does."""
        answer = await self._answer_to(command)
        if not isinstance(answer, Ack):
            raise ProtocolError(f"`{command.TYPE}` was answered by something else")
        return answer

    async def _answer_to(self, command: RoomCommand | ChatSend | VideoOpen) -> Ack | VideoSource:
        """Raises Refused, and SessionClosed where the connection broke before the answer."""
        connection = await self._link.current()
        id_ = command.id or ""
        self._answers[id_] = None
        try:
            await connection.send(command)
            while (answer := self._answers[id_]) is None:
                if connection.closed:
                    raise SessionClosed(
                        f"the connection broke before `{command.TYPE}` was answered; "
                        "nobody knows whether it was done"
                    )
                await self._link.pulse.wait()
        finally:
            del self._answers[id_]
        if isinstance(answer, ErrorMessage):
            raise Refused(answer.problem)
        return answer

    def _answered(self, message: ServerMessage) -> None:
        """Give a waiting command its answer."""
        if isinstance(message, Ack | VideoSource) and message.id in self._answers:
            self._answers[message.id or ""] = message
        elif isinstance(message, ErrorMessage) and message.in_reply_to in self._answers:
            self._answers[message.in_reply_to or ""] = message


def _member_id(member: Member) -> str:
    return member if isinstance(member, str) else member.member_id


def _message_id(message: Message) -> str:
    return message if isinstance(message, str) else message.id


def _item_id(item: Item) -> str:
    return item if isinstance(item, str) else item.item_id
