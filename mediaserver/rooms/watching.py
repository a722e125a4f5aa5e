"""What a room watches: its queue, and commands to its playback, as decisions. Pure."""

from collections.abc import Iterable

from mediaserver.kernel.errors import BadInput, Conflict, NotFound
from mediaserver.protocol.messages import ServerMessage
from mediaserver.protocol.room_commands import (
    PlaybackCommand,
    PlaybackReady,
    QueueAdd,
    QueueMove,
    QueueRemove,
)
from mediaserver.protocol.room_events import PlaybackMessage, QueueMessage
from mediaserver.protocol.rooms import MAX_QUEUE_ITEMS, QueueItem
from mediaserver.rooms import playback as pb
from mediaserver.rooms.decision import Context, Decision
from mediaserver.rooms.grants import grants_of, require
from mediaserver.rooms.state import RoomState, shown_playback


def command(state: RoomState, member_id: str, asked: PlaybackCommand, context: Context) -> Decision:
    """Carry out a playback command. Raises Forbidden, Conflict (`stale`, …), BadInput, NotFound."""
    require(state, member_id, "can_control")
    base = pb.Base(asked.base.epoch, asked.base.seq) if asked.base is not None else None
    lead_s = pb.start_lead_s(context.round_trip_s)
    now_s, before = context.now_s, state.playback
    if asked.action == "next":
        after = _next(state, asked, base, context)
    else:
        after = pb.apply(before, _order(state, asked), now_s, base=base, lead_s=lead_s)
    return _changed(state, after, member_id)


def _order(state: RoomState, asked: PlaybackCommand) -> pb.Command:
    match asked.action:
        case "play":
            return pb.Play(asked.position_s, watchers(state))
        case "pause":
            return pb.Pause(asked.position_s)
        case "seek":
            assert asked.position_s is not None
            return pb.Seek(asked.position_s)
        case "rate":
            assert asked.rate is not None
            return pb.SetRate(asked.rate)
        case _:
            return _start(state, find(state, asked.item_id or ""), asked.position_s or 0.0)


def _start(state: RoomState, item: QueueItem, position_s: float = 0.0) -> pb.SetItem:
    return pb.SetItem(item.item_id, item.duration_s, position_s=position_s, members=watchers(state))


def watchers(state: RoomState) -> tuple[str, ...]:
    """Members with a player: a start waits for them."""
    return tuple(
        m.member_id
        for m in state.members.values()
        if m.watches and grants_of(m, state.settings).can_subscribe
    )


def find(state: RoomState, item_id: str) -> QueueItem:
    """Return an item of the queue. Raises NotFound."""
    for item in state.queue:
        if item.item_id == item_id:
            return item
    raise NotFound("there is no such item in the queue (any more)", code="no_item")


def _following(state: RoomState) -> QueueItem | None:
    ids = [item.item_id for item in state.queue]
    if state.playback.item_id not in ids:
        return state.queue[0] if state.queue else None
    at = ids.index(state.playback.item_id) + 1
    return state.queue[at] if at < len(state.queue) else None


def _next(
    state: RoomState, asked: PlaybackCommand, base: pb.Base | None, context: Context
) -> pb.Playback:
    now_s, before = context.now_s, state.playback
    lead_s = pb.start_lead_s(context.round_trip_s)
    item = _following(state)
    following = _start(state, item) if item is not None else None
    if asked.ended:
        if asked.base is None:
            raise BadInput("`next` with `ended` needs base: which epoch's item ended?")
        if not pb.ended(before, asked.base.epoch, now_s):
            return before
        return pb.after_end(before, following, now_s, lead_s)
    if following is None:
        raise Conflict("this is the last item of the queue", code="no_next_item")
    return pb.apply(before, following, now_s, base=base, lead_s=lead_s)


def ready(state: RoomState, member_id: str, asked: PlaybackReady, context: Context) -> Decision:
    """Note that a member's player is ready."""
    after = pb.ready(
        state.playback,
        member_id,
        asked.epoch,
        context.now_s,
        lead_s=pb.start_lead_s(context.round_trip_s),
        is_ready=asked.ready,
    )
    return _changed(state, after, None)


def expire(state: RoomState, context: Context) -> Decision:
    """End a barrier whose time is over."""
    return _changed(state, pb.expire(state.playback, context.now_s), None)


def without(
    state: RoomState, gone: Iterable[str], context: Context
) -> tuple[RoomState, tuple[ServerMessage, ...]]:
    """Wait no longer for members that went."""
    lead_s = pb.start_lead_s(context.round_trip_s)
    after = pb.left(state.playback, gone, context.now_s, lead_s=lead_s)
    decision = _changed(state, after, None)
    return decision.state, decision.events


def _changed(state: RoomState, after: pb.Playback, by: str | None) -> Decision:
    if after == state.playback:
        return Decision(state)
    told = PlaybackMessage(seq=0, state=shown_playback(after), by=by)
    return Decision(state.model_copy(update={"playback": after}), (told,))


# ---- the queue -----------------------------------------------------------------------------


def add(state: RoomState, member_id: str, asked: QueueAdd, context: Context) -> Decision:
    """Put an item into the queue; the first one is made ready to play, paused.

    Raises Forbidden or Conflict (`queue_full`).
    """
    require(state, member_id, "can_control")
    if len(state.queue) >= MAX_QUEUE_ITEMS:
        raise Conflict(
            f"the queue has {MAX_QUEUE_ITEMS} items, its limit; remove some", code="queue_full"
        )
    new = asked.item
    url = str(new.url) if new.url is not None else None
    item = QueueItem(
        item_id=context.new_id("q"),
        kind=new.kind,
        url=url,
        video_id=new.video_id,
        member_id=new.member_id,
        title=new.title or (url or new.video_id or "live").rsplit("/", 1)[-1][:120] or "untitled",
        duration_s=new.duration_s,
        added_by=member_id,
    )
    at = len(state.queue) if asked.at is None else min(asked.at, len(state.queue))
    decision = _queued(state, (*state.queue[:at], item, *state.queue[at:]), member_id)
    if state.playback.item_id is not None:
        return decision
    first = pb.SetItem(item.item_id, item.duration_s, play=False)
    after = pb.apply(state.playback, first, context.now_s)
    shown = _changed(decision.state, after, member_id)
    return Decision(shown.state, (*decision.events, *shown.events))


def remove(state: RoomState, member_id: str, asked: QueueRemove, context: Context) -> Decision:
    """Take an item out; where it was playing the next one follows. Raises Forbidden, NotFound."""
    require(state, member_id, "can_control")
    item = find(state, asked.item_id)
    playback = state.playback
    if playback.item_id == item.item_id:
        following = _following(state)
        order = (
            pb.SetItem(
                following.item_id,
                following.duration_s,
                play=playback.playing,
                members=watchers(state),
            )
            if following is not None
            else pb.SetItem(None, play=False)
        )
        lead_s = pb.start_lead_s(context.round_trip_s)
        playback = pb.apply(playback, order, context.now_s, lead_s=lead_s)
    queue = tuple(i for i in state.queue if i.item_id != item.item_id)
    decision = _queued(state, queue, member_id)
    shown = _changed(decision.state, playback, member_id)
    return Decision(shown.state, (*decision.events, *shown.events))


def move(state: RoomState, member_id: str, asked: QueueMove) -> Decision:
    """Move an item. Raises Forbidden or NotFound."""
    require(state, member_id, "can_control")
    item = find(state, asked.item_id)
    rest = [i for i in state.queue if i.item_id != item.item_id]
    rest.insert(min(asked.to, len(rest)), item)
    return _queued(state, tuple(rest), member_id)


def _queued(state: RoomState, queue: tuple[QueueItem, ...], by: str) -> Decision:
    if queue == state.queue:
        return Decision(state)
    told = QueueMessage(seq=0, items=queue, by=by)
    return Decision(state.model_copy(update={"queue": queue}), (told,))
