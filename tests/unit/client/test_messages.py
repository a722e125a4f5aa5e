"""The client's messages are the server's messages."""

import dataclasses
import types
import typing
from typing import Any

import pytest
from mediaserver_client import (
    account_types,
    credentials,
    room_commands,
    room_events,
    room_types,
    video_types,
)
from mediaserver_client import messages as client
from mediaserver_client.errors import ProtocolError
from pydantic import AnyHttpUrl, BaseModel

from mediaserver.protocol import identity, problems, rooms, videos
from mediaserver.protocol import messages as server
from mediaserver.protocol import room_commands as server_commands
from mediaserver.protocol import room_events as server_events
from mediaserver.protocol.chat import ChatPage


def models_of(union: Any) -> dict[str, type[BaseModel]]:
    models = typing.get_args(typing.get_args(union)[0])
    return {model.model_fields["type"].annotation.__args__[0]: model for model in models}


def kinds_of(union: Any) -> dict[str, type[Any]]:
    return {kind.TYPE: kind for kind in typing.get_args(union)}


def plain(hint: Any) -> str:
    """A type as text, the same for both sides: constraints and class names do not count."""
    origin = typing.get_origin(hint)
    if hint is AnyHttpUrl or typing.get_args(hint) == ("",):
        return str(str)
    if origin is typing.Annotated:
        return plain(typing.get_args(hint)[0])
    if origin in (types.UnionType, typing.Union):
        return " | ".join(sorted({plain(part) for part in typing.get_args(hint)}))
    if origin is tuple:
        return f"tuple[{plain(typing.get_args(hint)[0])}]"
    if isinstance(hint, type) and (issubclass(hint, BaseModel) or dataclasses.is_dataclass(hint)):
        return "object"
    return str(hint)


def compare(model: type[BaseModel], kind: type[Any]) -> None:
    tagged = hasattr(kind, "TYPE")
    theirs = {n: f for n, f in model.model_fields.items() if not (tagged and n == "type")}
    hints = typing.get_type_hints(kind)
    ours = {field.name: field for field in dataclasses.fields(kind)}
    assert list(theirs) == list(ours), f"{kind.__name__} has other fields"
    server_hints = typing.get_type_hints(model, include_extras=True)
    for name, field in theirs.items():
        assert plain(server_hints[name]) == plain(hints[name]), f"{kind.__name__}.{name}"
        default = ours[name].default
        if field.is_required():
            assert default is dataclasses.MISSING, f"{kind.__name__}.{name} has a default"
        elif field.default_factory is not None:
            ours_factory: Any = ours[name].default_factory
            assert ours_factory() == field.get_default(call_default_factory=True)
        elif isinstance(default, client.CaptionOptions):
            assert isinstance(field.default, BaseModel)
            assert dataclasses.asdict(default) == field.default.model_dump()
        else:
            assert default == field.default, f"{kind.__name__}.{name} has another default"


SERVER_MODELS, CLIENT_MODELS = models_of(server.ServerMessage), models_of(server.ClientMessage)


def test_there_is_a_class_for_every_message_and_no_other() -> None:
    assert set(kinds_of(client.ServerMessage)) == set(SERVER_MODELS)
    assert set(kinds_of(client.ClientMessage)) == set(CLIENT_MODELS)


@pytest.mark.parametrize("name", sorted(SERVER_MODELS))
def test_what_the_server_sends_has_the_same_fields(name: str) -> None:
    compare(SERVER_MODELS[name], kinds_of(client.ServerMessage)[name])


@pytest.mark.parametrize("name", sorted(CLIENT_MODELS))
def test_what_the_client_sends_has_the_same_fields(name: str) -> None:
    compare(CLIENT_MODELS[name], kinds_of(client.ClientMessage)[name])


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        (server.WordMessage, client.Word),
        (server.IceServer, client.IceServer),
        (server.CaptionOptions, client.CaptionOptions),
        (problems.Problem, client.Problem),
        (rooms.Grants, room_types.Grants),
        (rooms.RoomSettings, room_types.RoomSettings),
        (rooms.RoomInfo, room_types.RoomInfo),
        (rooms.RoomChange, room_types.RoomChange),
        (rooms.Invitation, room_types.Invitation),
        (rooms.JoinTicket, room_types.JoinTicket),
        (rooms.MemberInfo, room_types.MemberInfo),
        (rooms.BroadcastInfo, room_types.BroadcastInfo),
        (rooms.QueueItem, room_types.QueueItem),
        (rooms.PlaybackState, room_types.PlaybackState),
        (server_commands.QueueItemNew, room_types.QueueItemNew),
        (server_commands.PlaybackBase, room_types.PlaybackBase),
        (ChatPage, room_types.ChatPage),
        (identity.RoomTokenAnswer, room_types.RoomToken),
        (identity.RoomTokenInfo, room_types.RoomTokenInfo),
        (identity.PrincipalInfo, account_types.Principal),
        (identity.TicketAnswer, account_types.Ticket),
        (identity.UserInfo, account_types.User),
        (identity.ApiKeyInfo, account_types.ApiKey),
        (identity.TokenAnswer, credentials.Tokens),
        (videos.VideoInfo, video_types.VideoInfo),
        (videos.VideoList, video_types.VideoList),
        (videos.SegmentAuth, video_types.SegmentAuth),
        (videos.SignedPlayback, video_types.SignedPlayback),
    ],
)
def test_nested_objects_have_the_same_fields(model: type[BaseModel], kind: type[Any]) -> None:
    compare(model, kind)


def test_limits_are_the_same() -> None:
    assert client.MAX_AUDIO_MESSAGE_BYTES == server.MAX_AUDIO_MESSAGE_BYTES
    assert client.MAX_CHAT_CHARACTERS == server.MAX_CHAT_CHARACTERS
    assert client.Task == server.Task
    assert client.Encoding == server.Encoding
    assert account_types.Scope == identity.Scope
    assert account_types.Role == identity.Role


@pytest.mark.parametrize(
    "message",
    [
        client.AudioStart(options=client.CaptionOptions(language="es", task="translate")),
        client.AudioStop(),
        client.Configure(options=client.CaptionOptions(endpointing_ms=300)),
        client.Finalize(),
        client.ChatSend(text="¡hola!", id="c1"),
        client.Ping(id="7"),
        client.Leave(),
        client.Candidate(candidate=None),
        client.Offer(sdp="v=0"),
        client.ChatSend(text="@Ann", id="c2", reply_to="c_1", mentions=("m_1",)),
        room_commands.ChatEdit(id="1", message_id="c", text="x"),
        room_commands.ChatDelete(message_id="c"),
        room_commands.ChatReact(message_id="c", emoji="🎉", on=False),
        room_commands.Typing(),
        room_commands.React(emoji="🎉"),
        room_commands.ClockPing(t0=1.5),
        room_commands.PlaybackCommand(
            action="next", base=room_types.PlaybackBase(epoch=1, seq=2), ended=True
        ),
        room_commands.PlaybackReady(epoch=1),
        room_commands.PlaybackReport(drift_ms=-3.0, round_trip_ms=8.0),
        room_commands.QueueAdd(item=room_types.QueueItemNew(kind="vod", video_id="v_1"), at=0),
        room_commands.QueueRemove(item_id="q"),
        room_commands.QueueMove(item_id="q", to=2),
        room_commands.MemberUpdate(name="Ann", caption_language="es"),
        room_commands.MemberUpdate(caption_language=""),
        room_commands.MemberRole(member_id="m", role="cohost"),
        room_commands.MemberMute(member_id="m", chat=True),
        room_commands.MemberKick(member_id="m", reason="noise"),
        room_commands.MemberBan(member_id="m", duration_s=60),
        room_commands.RoomUpdate(change=room_types.RoomChange(slow_mode_s=2.0)),
        room_commands.RoomCloseCommand(),
        room_commands.Authenticate(token="t"),
    ],
)
def test_the_server_understands_what_the_client_writes(message: client.ClientMessage) -> None:
    parsed = server.parse_client_message(client.encode(message))
    assert parsed.type == message.TYPE
    assert parsed.model_dump(exclude={"type"}) == dataclasses.asdict(message)


def test_the_client_understands_what_the_server_writes() -> None:
    word = server.WordMessage(text="So", start_s=0.1, end_s=0.4, probability=1, final=True)
    caption = server.Caption(
        seq=3, track_id="t", caption_id="t.0", speaker="Ada", member_id="m", start_s=0.1,
        end_s=0.4, language="en", task="transcribe", text="So", words=(word,), final=False,
    )  # fmt: skip
    got = client.decode(caption.model_dump_json())
    assert isinstance(got, client.Caption)
    assert got.words == (
        client.Word(text="So", start_s=0.1, end_s=0.4, probability=1.0, final=True),
    )
    assert (got.final_text, got.tentative_text) == ("So", "")
    welcome = server.Welcome(
        session_id="s", room="lobby", member_id="m", name="Ada", role="host",
        grants=rooms.Grants(can_chat=True), log_id="l", seq=4, resume_secret="r",
        ice_servers=(server.IceServer(urls=("stun:127.0.0.1",)),),
    )  # fmt: skip
    decoded = client.decode(welcome.model_dump_json())
    assert isinstance(decoded, client.Welcome)
    assert decoded.ice_servers == (client.IceServer(urls=("stun:127.0.0.1",)),)
    assert decoded.grants == room_types.Grants(can_chat=True)


def test_the_client_understands_a_rooms_snapshot() -> None:
    settings = rooms.RoomSettings(
        title="Film", visibility="private", persistent=False, slow_mode_s=0, everyone_controls=True
    )
    playback = rooms.PlaybackState(
        epoch=1, seq=3, item_id="q", playing=True, position_s=4, rate=1, anchor_s=9.5,
        waiting_for=("m",), wait_until_s=12,
    )  # fmt: skip
    snapshot = server_events.RoomSnapshot(
        seq=7, log_id="l", playback=playback,
        room=rooms.RoomInfo(room="film", settings=settings, created_at=1, members=1),
        members=(
            rooms.MemberInfo(member_id="m", name="Ada", role="host", kind="user", joined_at=1),
        ),
        queue=(rooms.QueueItem(item_id="q", kind="mp4", url="http://x/", title="x", added_by="m"),),
    )  # fmt: skip
    got = client.decode(snapshot.model_dump_json())
    assert isinstance(got, room_events.RoomSnapshot)
    assert dataclasses.asdict(got) == snapshot.model_dump(exclude={"type"})
    reacted = client.decode(
        '{"type":"chat.reacted","seq":1,"message_id":"c","reactions":{"🎉":["m"]}}'
    )
    assert reacted == room_events.ChatReacted(seq=1, message_id="c", reactions={"🎉": ("m",)})


def test_messages_of_a_newer_server_are_ignored_but_nonsense_is_an_error() -> None:
    assert client.decode('{"type": "hologram"}') is None
    pong = client.decode('{"type":"pong","id":"1","server_time":2,"new":true}')
    assert pong == client.Pong(id="1", server_time=2.0)
    for text in (
        "nonsense",
        "[]",
        '{"a":1}',
        '{"type":"pong"}',
        '{"type":"pong","id":1,"server_time":2}',
    ):
        with pytest.raises(ProtocolError):
            client.decode(text)
