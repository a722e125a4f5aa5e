"""What members see of a room, kept up to date by its events alone. Pure.

Every instance has a view of each room that it has members in. It is made from the state once, and
then `apply` follows the log: the view of the state after a decision is the view before it with the
decision's events applied.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from mediaserver.protocol.messages import ServerMessage, TrackEnded, TrackStarted
from mediaserver.protocol.room_events import (
    MemberJoined,
    MemberLeft,
    MemberUpdated,
    PlaybackMessage,
    QueueMessage,
    RoomClosed,
    RoomUpdated,
)
from mediaserver.protocol.rooms import (
    MemberInfo,
    PlaybackState,
    QueueItem,
    RoomInfo,
    RoomSettings,
)
from mediaserver.rooms.state import RoomState, shown_playback

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RoomView:
    """See the module's docstring."""

    room: str
    created_at: float
    settings: RoomSettings
    members: Mapping[str, MemberInfo]
    tracks: Mapping[str, TrackStarted]
    queue: tuple[QueueItem, ...]
    playback: PlaybackState
    closed: str | None = None

    @property
    def info(self) -> RoomInfo:
        """The room as lists show it."""
        playing = next((i for i in self.queue if i.item_id == self.playback.item_id), None)
        return RoomInfo(
            room=self.room,
            settings=self.settings,
            created_at=self.created_at,
            members=len(self.members),
            playing=playing.title if playing is not None else None,
        )

    @property
    def host_missing(self) -> bool:
        """Whether somebody is there, but no host."""
        return bool(self.members) and all(m.role != "host" for m in self.members.values())


def view_of(state: RoomState) -> RoomView:
    """Return what members see of `state`."""
    return RoomView(
        room=state.room,
        created_at=state.created_at,
        settings=state.settings,
        members={id_: m.info for id_, m in state.members.items() if not m.grants.hidden},
        tracks={
            t.track_id: TrackStarted(track_id=t.track_id, member_id=t.member_id, speaker=t.speaker)
            for t in state.tracks.values()
        },
        queue=state.queue,
        playback=shown_playback(state.playback),
        closed=state.closed,
    )


def info_of(state: RoomState) -> RoomInfo:
    """Return the room as lists show it; the same as of `view_of`, for less."""
    playing = next((i for i in state.queue if i.item_id == state.playback.item_id), None)
    return RoomInfo(
        room=state.room,
        settings=state.settings,
        created_at=state.created_at,
        members=sum(not member.grants.hidden for member in state.members.values()),
        playing=playing.title if playing is not None else None,
    )


def apply(view: RoomView, event: ServerMessage) -> RoomView:
    """Return the view after `event`."""
    match event:
        case MemberJoined(member=member) | MemberUpdated(member=member):
            return replace(view, members={**view.members, member.member_id: member})
        case MemberLeft(member_id=member_id):
            return replace(view, members=_without(view.members, member_id))
        case RoomUpdated(settings=settings):
            return replace(view, settings=settings)
        case TrackStarted():
            track = event.model_copy(update={"seq": None})
            return replace(view, tracks={**view.tracks, event.track_id: track})
        case TrackEnded(track_id=track_id):
            return replace(view, tracks=_without(view.tracks, track_id))
        case QueueMessage(items=items):
            return replace(view, queue=items)
        case PlaybackMessage(state=playback):
            return replace(view, playback=playback)
        case RoomClosed(reason=reason):
            return replace(view, closed=reason)
        case _:
            return view


def _without(mapping: Mapping[str, T], key: str) -> dict[str, T]:
    return {k: v for k, v in mapping.items() if k != key}
