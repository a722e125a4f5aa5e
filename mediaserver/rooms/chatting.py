"""Chat: what may be said, changed, deleted and reacted to, and by whom. Pure.

Messages are kept beside the state, so that saying something does not rewrite it; only in slow mode
the state notes who spoke when.
"""

from mediaserver.kernel.errors import Conflict, Forbidden, NotFound, TooManyRequests
from mediaserver.protocol.messages import Chat, ChatSend
from mediaserver.protocol.room_commands import ChatDelete, ChatEdit, ChatReact
from mediaserver.protocol.room_events import ChatDeleted, ChatEdited, ChatReacted
from mediaserver.rooms.decision import ChatChange, Context, Decision
from mediaserver.rooms.grants import grants_of, require
from mediaserver.rooms.state import MemberRecord, RoomState

KEPT_CHAT = 200
EDITABLE_S = 600.0
MAX_EMOJI = 20
"""Different emoji on one message."""


def send(state: RoomState, member_id: str, asked: ChatSend, context: Context) -> Decision:
    """Say something. Raises Forbidden, or TooManyRequests (`slow_mode`)."""
    member = require(state, member_id, "can_chat")
    state = _slowly(state, member, context.now_s)
    message = Chat(
        seq=0,
        id=context.new_id("c"),
        client_id=asked.id,
        member_id=member_id,
        name=member.name,
        text=asked.text,
        sent_at=round(context.now_s, 3),
        reply_to=asked.reply_to if asked.reply_to in context.chat else None,
        mentions=tuple(dict.fromkeys(m for m in asked.mentions if m in state.members)),
    )
    return Decision(
        state,
        (message,),
        chat=ChatChange(message.id, None, message),
        once=f"chat:{member_id}:{asked.id}" if asked.id else None,
    )


def _slowly(state: RoomState, member: MemberRecord, now_s: float) -> RoomState:
    pause_s = state.settings.slow_mode_s
    if not pause_s or member.role in ("host", "cohost"):
        return state
    who = member.subject or member.member_id
    wait_s = state.said.get(who, float("-inf")) + pause_s - now_s
    if wait_s > 0:
        raise TooManyRequests(
            f"slow mode: one message every {pause_s:g} s; wait {wait_s:.0f} s",
            code="slow_mode",
            retry_after_s=round(wait_s, 1),
        )
    said = {k: at for k, at in state.said.items() if at + pause_s > now_s}
    return state.model_copy(update={"said": said | {who: now_s}})


def edit(state: RoomState, member_id: str, asked: ChatEdit, context: Context) -> Decision:
    """Change one's own message. Raises Forbidden, NotFound or Conflict (`too_late`)."""
    require(state, member_id, "can_chat")
    before = _message(asked.message_id, context)
    if before.member_id != member_id:
        raise Forbidden("only who wrote a message may change it", code="not_yours")
    if context.now_s > before.sent_at + EDITABLE_S:
        raise Conflict("a message can be changed for ten minutes", code="too_late")
    if before.text == asked.text:
        return Decision(state)
    at = round(context.now_s, 3)
    after = before.model_copy(update={"text": asked.text, "edited_at": at})
    told = ChatEdited(seq=0, message_id=before.id, text=asked.text, edited_at=at)
    return Decision(state, (told,), chat=ChatChange(before.id, before, after))


def delete(state: RoomState, member_id: str, asked: ChatDelete, context: Context) -> Decision:
    """Delete one's own message, or anybody's with `can_moderate`. Raises Forbidden, NotFound."""
    member = require(state, member_id, "room_join")
    before = _message(asked.message_id, context)
    moderates = grants_of(member, state.settings).can_moderate
    if before.member_id != member_id and not moderates:
        raise Forbidden("only who wrote a message, or a host, may delete it", code="not_yours")
    told = ChatDeleted(seq=0, message_id=before.id, by=member_id)
    return Decision(state, (told,), chat=ChatChange(before.id, before, None))


def react(state: RoomState, member_id: str, asked: ChatReact, context: Context) -> Decision:
    """Put an emoji to a message, or take it back. Raises Forbidden, NotFound or Conflict."""
    require(state, member_id, "can_react")
    before = _message(asked.message_id, context)
    reactions = {k: v for k, v in before.reactions.items() if k != asked.emoji}
    who = [m for m in before.reactions.get(asked.emoji, ()) if m != member_id]
    if asked.on:
        if asked.emoji not in before.reactions and len(reactions) >= MAX_EMOJI:
            raise Conflict(f"a message has at most {MAX_EMOJI} different reactions")
        who.append(member_id)
    if who:
        reactions = {k: tuple(who) if k == asked.emoji else v for k, v in before.reactions.items()}
        reactions.setdefault(asked.emoji, tuple(who))
    if set(who) == set(before.reactions.get(asked.emoji, ())):
        return Decision(state)
    after = before.model_copy(update={"reactions": reactions})
    told = ChatReacted(seq=0, message_id=before.id, reactions=reactions)
    return Decision(state, (told,), chat=ChatChange(before.id, before, after))


def _message(message_id: str, context: Context) -> Chat:
    message = context.chat.get(message_id)
    if message is None:
        raise NotFound("there is no such message (any more)", code="no_message")
    return message
