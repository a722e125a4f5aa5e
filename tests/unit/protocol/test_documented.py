"""docs/protocol.md names every message, field, parameter, limit and close code, and no other."""

import re
import typing
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from mediaserver.kernel import errors
from mediaserver.protocol import chat, deepgram, messages, problems, room_commands, rooms, videos
from mediaserver.protocol.deepgram_query import ListenQuery
from mediaserver.relay import feeding, links
from mediaserver.rooms import replica, state
from mediaserver.rtc.sdp import MAX_SDP_BYTES
from mediaserver.rtc.whip import FRAGMENT_TYPE, MAX_FRAGMENT_BYTES, SDP_TYPE, TRANSCRIPT_RELATION
from mediaserver.sessions import session, track, watching
from mediaserver.web import floods, transcripts, whip, ws_connection, ws_out

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "protocol.md").read_text(encoding="utf-8")


def section(heading: str) -> str:
    """The text under a heading, up to the next heading of the same or a higher level."""
    found = re.search(rf"^(#+) {re.escape(heading)}$", TEXT, re.MULTILINE)
    assert found, f"docs/protocol.md has no heading {heading!r}"
    level = len(found.group(1))
    rest = TEXT[found.end() :]
    end = re.search(rf"^#{{1,{level}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def fields(heading: str) -> list[str]:
    """The fields that the table of a section names."""
    return re.findall(r"^\| `(\w+)`\*? \|", section(heading), re.MULTILINE)


def by_type(union: Any) -> dict[str, type[BaseModel]]:
    models = typing.get_args(typing.get_args(union)[0])
    return {typing.get_args(m.model_fields["type"].annotation)[0]: m for m in models}


SENT = by_type(messages.ClientMessage)
RECEIVED = by_type(messages.ServerMessage)


@pytest.mark.parametrize(
    ("union", "heading"), [(SENT, "What clients send"), (RECEIVED, "What the server sends")]
)
def test_every_message_has_a_section_and_no_other_has(union: dict[str, Any], heading: str) -> None:
    documented = re.findall(r"^#### `([\w.]+)`$", section(heading), re.MULTILINE)
    assert sorted(documented) == sorted(union)


@pytest.mark.parametrize("name", sorted(SENT | RECEIVED))
def test_every_field_of_a_message_is_documented(name: str) -> None:
    model = (SENT | RECEIVED)[name]
    assert fields(f"`{name}`") == [field for field in model.model_fields if field != "type"]


@pytest.mark.parametrize("name", sorted(SENT))
def test_fields_that_have_to_be_there_are_marked(name: str) -> None:
    marked = re.findall(r"^\| `(\w+)`\* \|", section(f"`{name}`"), re.MULTILINE)
    required = [n for n, f in SENT[name].model_fields.items() if f.is_required() and n != "type"]
    assert marked == required


@pytest.mark.parametrize(
    ("heading", "model"),
    [
        ("CaptionOptions", messages.CaptionOptions),
        ("Word", messages.WordMessage),
        ("IceServer", messages.IceServer),
        ("Problem", problems.Problem),
        ("Grants", rooms.Grants),
        ("RoomSettings", rooms.RoomSettings),
        ("RoomInfo", rooms.RoomInfo),
        ("MemberInfo", rooms.MemberInfo),
        ("BroadcastInfo", rooms.BroadcastInfo),
        ("QueueItem", rooms.QueueItem),
        ("QueueItemNew", room_commands.QueueItemNew),
        ("PlaybackState", rooms.PlaybackState),
        ("PlaybackBase", room_commands.PlaybackBase),
        ("RoomChange", rooms.RoomChange),
        ("RoomCreate", rooms.RoomCreate),
        ("InvitationCreate", rooms.InvitationCreate),
        ("Invitation", rooms.Invitation),
        ("JoinRequest", rooms.JoinRequest),
        ("JoinTicket", rooms.JoinTicket),
        ("ChatPage", chat.ChatPage),
        ("VideoInfo", videos.VideoInfo),
        ("VideoList", videos.VideoList),
        ("VideoChange", videos.VideoChange),
        ("SignRequest", videos.SignRequest),
        ("SignedPlayback", videos.SignedPlayback),
    ],
)
def test_every_field_of_an_object_is_documented(heading: str, model: type[BaseModel]) -> None:
    assert fields(heading) == list(model.model_fields)


def test_every_close_code_is_documented() -> None:
    def tree(error: type[errors.MediaServerError]) -> set[int]:
        return {error.ws_close_code}.union(*(tree(sub) for sub in error.__subclasses__()))

    text = section("Liveness, the end, and coming back")
    documented = {int(code) for code in re.findall(r"^\| (\d{4}) \|", text, re.MULTILINE)}
    assert documented == tree(errors.MediaServerError) | {1000, 1001, 1006}


def test_limits_are_those_of_the_code() -> None:
    text = section("Limits")
    for limit in (
        f"a text message | {messages.MAX_CLIENT_MESSAGE_BYTES} bytes; "
        f"an `offer` {messages.MAX_OFFER_MESSAGE_BYTES} bytes",
        f"messages of a member | {floods.MESSAGES_HZ:g} a second, "
        f"{floods.MESSAGES_AT_ONCE:g} at once",
        f"{floods.REFUSED_AT_MOST} refused within {floods.REFUSED_WITHIN_S:g} s",
        f"items of a queue | {rooms.MAX_QUEUE_ITEMS} ",
        f"a binary message | {messages.MAX_AUDIO_MESSAGE_BYTES} bytes",
        f"an SDP offer | {MAX_SDP_BYTES} bytes",
        f"unread | {ws_out.OUTBOX_CAPACITY}, partials",
        f"by your network | {ws_out.SEND_TIMEOUT_S:g} s",
        f"speech worker | {track.MAX_OWED_S:g} s a track",
        f"tracks of a session | {session.MAX_TRACKS} ",
        f"members of a room | {state.MAX_MEMBERS} ",
        f"viewers on an instance | {watching.MAX_VIEWERS} ",
        f"gives to others | {links.MAX_LINKS} each",
        f"of a member | {watching.OFFERS_HZ:g} a second, {watching.OFFERS_AT_ONCE:g} at once",
        f"after `leave` | {ws_connection.CLOSE_TIMEOUT_S:g} s",
    ):
        assert limit in text, limit
    assert links.MAX_LINKS == feeding.MAX_FEEDS
    assert f"newest {replica.TOLD_FINALS} captions and {replica.TOLD_CHAT} chat" in TEXT.replace(
        "\n", " "
    )
    assert f"1 to {messages.MAX_CHAT_CHARACTERS} characters" in section("`chat.send`")
    assert f"cut at {messages.MAX_NAME_CHARACTERS} characters" in TEXT


def test_every_parameter_of_listen_is_documented() -> None:
    text = section("Deepgram's live protocol: `WS /v1/listen`")
    rows = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    documented = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(documented) == sorted(ListenQuery.model_fields)
    for union in (deepgram.ClientMessage, deepgram.ListenMessage):
        for name in by_type(union):
            assert f"`{name}`" in text, name


def test_whip_is_documented_as_it_is() -> None:
    text = section("WHIP")
    entries = whip.routes().entries
    assert entries
    for entry in entries:
        assert f"`{entry.method}" in text, entry.method
        for parameter in entry.parameters:
            shown = {"path": "{room}", "header": "If-Match"}.get(parameter.place)
            assert (shown or f"| `{parameter.name}` |") in text, parameter.name
    assert f"over {MAX_SDP_BYTES} bytes" in text
    assert f"over {MAX_FRAGMENT_BYTES} bytes" in text
    for media_type in (SDP_TYPE, FRAGMENT_TYPE):
        assert f"`{media_type}`" in text
    assert TRANSCRIPT_RELATION in text


def test_every_transcript_format_and_parameter_is_documented() -> None:
    text = section("Transcripts")
    for kind in transcripts.CONTENT_TYPES:
        assert f".{kind}`" in text
    for name in ("since", "download", "follow"):
        assert f"| `{name}` |" in text


def test_links_lead_somewhere() -> None:
    headings = re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for target in re.findall(r"\]\(#([^)]+)\)", TEXT):
        assert target in anchors, target
    for target in re.findall(r"\]\((\.\./[^)#]+)\)", TEXT):
        assert (Path(__file__).resolve().parents[3] / "docs" / target).exists(), target
