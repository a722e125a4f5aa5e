"""`decide`: the state of a room, who asks, what is asked → the new state and what is told. Pure."""

from collections.abc import Mapping
from typing import assert_never

from mediaserver.protocol import room_commands as c
from mediaserver.protocol.messages import ChatSend
from mediaserver.rooms import attendance, chatting, moderation, watching
from mediaserver.rooms.decision import (
    Broadcasting,
    ChangeSettings,
    CloseRoom,
    Context,
    Decision,
    Depart,
    EndTrack,
    Expel,
    Join,
    Limit,
    Restore,
    ServerCommand,
    StartTrack,
    SweepInstance,
    Tick,
    Watch,
)
from mediaserver.rooms.grants import require
from mediaserver.rooms.state import RoomState, TrackRecord

MemberCommand = (
    ChatSend
    | c.ChatEdit
    | c.ChatDelete
    | c.ChatReact
    | c.PlaybackCommand
    | c.PlaybackReady
    | c.QueueAdd
    | c.QueueRemove
    | c.QueueMove
    | c.MemberUpdate
    | c.MemberRole
    | c.MemberMute
    | c.MemberKick
    | c.MemberBan
    | c.RoomUpdate
    | c.RoomCloseCommand
)
"""What a member asks that concerns the whole room."""


def decide(state: RoomState, member_id: str, command: MemberCommand, context: Context) -> Decision:
    """Decide on a member's command.

    Raises Forbidden, NotFound, Conflict, BadInput or TooManyRequests, with what to do.
    """
    match command:
        case ChatSend():
            return chatting.send(state, member_id, command, context)
        case c.ChatEdit():
            return chatting.edit(state, member_id, command, context)
        case c.ChatDelete():
            return chatting.delete(state, member_id, command, context)
        case c.ChatReact():
            return chatting.react(state, member_id, command, context)
        case c.PlaybackCommand():
            return watching.command(state, member_id, command, context)
        case c.PlaybackReady():
            return watching.ready(state, member_id, command, context)
        case c.QueueAdd():
            return watching.add(state, member_id, command, context)
        case c.QueueRemove():
            return watching.remove(state, member_id, command, context)
        case c.QueueMove():
            return watching.move(state, member_id, command)
        case c.MemberUpdate():
            return moderation.update(state, member_id, command)
        case c.MemberRole():
            return moderation.role(state, member_id, command)
        case c.MemberMute():
            return moderation.mute(state, member_id, command)
        case c.MemberKick():
            return moderation.kick(state, member_id, command, context)
        case c.MemberBan():
            return moderation.ban(state, member_id, command, context)
        case c.RoomUpdate(change=change):
            require(state, member_id, "room_admin")
            return moderation.change_settings(state, change)
        case c.RoomCloseCommand():
            member = require(state, member_id, "room_admin")
            return moderation.close(state, f"closed by {member.name}")
        case _:
            assert_never(command)


def decide_for_server(state: RoomState, command: ServerCommand, context: Context) -> Decision:
    """Decide on what an instance has to report or to do."""
    match command:
        case Join():
            return attendance.join(state, command, context)
        case Depart():
            return attendance.depart(state, command, context)
        case SweepInstance():
            return attendance.sweep(state, command, context)
        case Restore():
            return attendance.restore(state, command, context)
        case StartTrack():
            return _start_track(state, command)
        case EndTrack():
            return _end_track(state, command)
        case Watch(member_id=member_id):
            return _changed(state, member_id, {"watches": True})
        case Broadcasting():
            return _broadcasting(state, command)
        case Limit(member_id=member_id, grants=grants):
            member = state.members.get(member_id)
            hidden = member is not None and member.grants.hidden  # others were told so
            limited = grants.model_copy(update={"hidden": hidden})
            return _changed(state, member_id, {"grants": limited})
        case Tick():
            return _tick(state, context)
        case ChangeSettings(change=change):
            return moderation.change_settings(state, change)
        case CloseRoom(reason=reason):
            return moderation.close(state, reason)
        case Expel(subjects=subjects):
            return moderation.expel(state, subjects, context)
        case _:
            assert_never(command)


def _start_track(state: RoomState, command: StartTrack) -> Decision:
    track = command.track
    if track.member_id not in state.members or track.track_id in state.tracks:
        return Decision(state)
    record = TrackRecord(track_id=track.track_id, member_id=track.member_id, speaker=track.speaker)
    tracks = {**state.tracks, track.track_id: record}
    told = track.model_copy(update={"seq": 0})
    return Decision(state.model_copy(update={"tracks": tracks}), (told,))


def _end_track(state: RoomState, command: EndTrack) -> Decision:
    if command.track.track_id not in state.tracks:
        return Decision(state)
    tracks = {k: t for k, t in state.tracks.items() if k != command.track.track_id}
    told = command.track.model_copy(update={"seq": 0})
    return Decision(state.model_copy(update={"tracks": tracks}), (told,))


def _broadcasting(state: RoomState, command: Broadcasting) -> Decision:
    """Of a connection that its member has left for a newer one it is no news."""
    member = state.members.get(command.member_id)
    if member is None or member.connection != command.connection:
        return Decision(state)
    return _changed(state, command.member_id, {"broadcast": command.broadcast})


def _changed(state: RoomState, member_id: str, change: Mapping[str, object]) -> Decision:
    """A member changes; others are told where they see it."""
    before = state.members.get(member_id)
    if before is None:
        return Decision(state)
    return moderation.replaced(state, (before.model_copy(update=change),))


def _tick(state: RoomState, context: Context) -> Decision:
    """A new host where the old one stays away; a barrier's end."""
    hosted = attendance.promote(state, context)
    started = watching.expire(hosted.state, context)
    return Decision(started.state, (*hosted.events, *started.events))
