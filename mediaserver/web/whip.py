"""WHIP, RFC 9725: `POST /whip/{room}` publishes; `PATCH` and `DELETE` on the resource it makes."""

from collections import OrderedDict, deque
from collections.abc import Hashable

from aiohttp import web

from mediaserver.captions.audio import AudioChunk
from mediaserver.kernel.errors import BadInput, NotFound, Unavailable
from mediaserver.kernel.logging import bind, get_logger
from mediaserver.kernel.tasks import TaskScope
from mediaserver.protocol import messages as m
from mediaserver.protocol.rooms import Grants
from mediaserver.rtc.peer import CloseReason, Peer
from mediaserver.rtc.sdp import MAX_SDP_BYTES, WHIP_RULES
from mediaserver.rtc.whip import (
    FRAGMENT_TYPE,
    MAX_FRAGMENT_BYTES,
    SDP_TYPE,
    check_if_match,
    ice_links,
    new_etag,
    new_resource_id,
    parse_fragment,
    transcript_link,
)
from mediaserver.sessions.publishing import CHANNELS
from mediaserver.sessions.session import Session
from mediaserver.sessions.showing import Showing
from mediaserver.sessions.track import CaptionTrack
from mediaserver.web import keys
from mediaserver.web.routing import Content, Parameter, Routes
from mediaserver.web.whip_requests import (
    check_type,
    newcomer_of,
    options_of,
    read_text,
    room_of,
)

log = get_logger(__name__)

ENDPOINT = "/whip/{room}"
RESOURCE = "/whip/{room}/{resource}"
REMEMBERED = 1000
"""Ended publishers whose DELETE is still answered with 200: both sides may end at once."""

_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "Location, ETag, Link, Retry-After",
}
_PREFLIGHT = {
    "Access-Control-Allow-Headers": "Authorization, Content-Type, If-Match, X-API-Key",
    "Access-Control-Max-Age": "86400",
}


async def add_cors(request: web.Request, response: web.StreamResponse) -> None:
    """Let pages of other origins publish (with a key); an `on_response_prepare` signal handler.

    A signal, so that errors are readable for them too, whoever made them.
    """
    if request.path.startswith("/whip/"):
        for name, value in _CORS.items():
            response.headers.setdefault(name, value)


class Publisher:
    """One WHIP session: the listener of its peer, and the source of its track."""

    def __init__(self, publishers: "Publishers", room: str) -> None:
        self.id = new_resource_id()
        self.etag = new_etag()
        self.room = room
        self.peer: Peer | None = None
        self._publishers = publishers
        self._session: Session | None = None
        self._showing: Showing | None = None
        self._track: CaptionTrack | None = None

    def begin(self, session: Session, options: m.CaptionOptions) -> None:
        """Caption what comes from now on. Raises Overloaded."""
        self._session = session
        self._track = session.open_track(options)
        if self.peer is not None:
            self._showing = session.showing(self.peer.broadcast)

    async def patch(self, text: str) -> None:
        """Add trickled candidates. Raises BadInput, or Unprocessable for a restart."""
        fragment = parse_fragment(text)
        if self.peer is None or self.peer.credentials is None:
            raise _no_such_publisher()
        fragment.must_not_restart(*self.peer.credentials)
        for candidate in fragment.candidates:
            await self.peer.add_candidate(candidate.line, candidate.mid, candidate.mline_index)

    def deliver(self, message: m.ServerMessage, key: Hashable | None) -> None:
        """Send what the room is told to a publisher that opened a data channel."""
        label = CHANNELS.get(message.type)
        if label is not None and self.peer is not None and self.peer.channel_open(label):
            self.peer.send(label, message.wire_text(), key)

    def granted(self, grants: Grants) -> None:
        """End when it may not be heard any more."""
        if self._showing is not None:
            self._showing.regranted()
        if not grants.can_publish:
            self.dismiss(4403, "you may not publish any more")

    def dismiss(self, code: int, reason: str) -> None:
        """The room sends the publisher away."""
        self._publishers.dismiss(self, reason)

    async def end(self, reason: str) -> None:
        """End the session, with its pending finals; the first call's reason counts."""
        session, self._session = self._session, None
        if session is not None:
            await session.close(reason)

    # ---- what the peer tells ------------------------------------------------------------------

    def connected(self) -> None:
        """Nothing to do: the track is open already."""

    def audio_started(self, mid: str) -> None:
        """Nothing to do: the track is open already."""

    def audio(self, mid: str, chunk: AudioChunk) -> None:
        """Take audio. Raises Overloaded."""
        if self._track is not None:
            self._track.push(chunk)

    def audio_ended(self, mid: str) -> None:
        """Nothing to do: `closed` follows."""

    def channel_message(self, label: str, text: str) -> None:
        """Refuse: a publisher only publishes."""
        raise BadInput("a WHIP publisher cannot send messages; use /ws for that")

    def media_changed(self, audio: bool, video: bool) -> None:
        """There is something else to watch."""
        if self._showing is None or self.peer is None:
            return
        if (reason := self.peer.close_reason) is not None:
            self._showing.close("lost" if reason == "lost" else "left")
        else:
            self._showing.media_changed(audio, video)

    def closed(self, reason: CloseReason, detail: str) -> None:
        """Let the session end."""
        self._publishers.over(self, reason)


class Publishers:
    """The WHIP sessions of an application, and the handlers of their resources."""

    def __init__(self) -> None:
        self._publishers: OrderedDict[str, Publisher] = OrderedDict()
        self._ended: deque[str] = deque(maxlen=REMEMBERED)
        self._scope = TaskScope("whip")

    def over(self, publisher: Publisher, reason: CloseReason) -> None:
        """A publisher's peer is gone: end its session in the background."""
        if self._publishers.pop(publisher.id, None) is None:
            return
        self._ended.append(publisher.id)
        if not self._scope.closed:
            told = reason if reason in ("left", "lost") else "failed"
            self._scope.spawn(f"end {publisher.id[:12]}", publisher.end(told))

    def dismiss(self, publisher: Publisher, reason: str) -> None:
        """A room sends a publisher away."""
        if publisher.peer is not None and not self._scope.closed:
            self._scope.spawn("dismiss", publisher.peer.close("left", reason))

    def _find(self, request: web.Request) -> Publisher:
        publisher = self._publishers.get(request.match_info["resource"])
        if publisher is None or publisher.room != request.match_info["room"]:
            raise _no_such_publisher()
        return publisher

    # ---- the endpoint -------------------------------------------------------------------------

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Publish."""
        app = request.app
        room, options = room_of(request), options_of(request)
        newcomer = newcomer_of(request, room)
        check_type(request, SDP_TYPE)
        sdp = await read_text(request, MAX_SDP_BYTES)
        publisher = Publisher(self, room)
        peer = publisher.peer = app[keys.PEERS].open(publisher)
        with bind(peer_id=peer.id):
            accepted = False
            try:
                answer = await peer.accept(sdp, WHIP_RULES)
                self._publishers[publisher.id] = publisher
                session, _ = await app[keys.SESSIONS].enter(
                    kind="whip", room=room, newcomer=newcomer, attendee=publisher
                )
                publisher.begin(session, options)
                if peer.closed:
                    raise Unavailable("the connection was closed while it was set up")
                accepted = True
            finally:
                if not accepted:
                    self._scope.spawn("refuse", self._refuse(publisher))
            log.info("whip.published", session_id=session.id)
        servers = app[keys.ICE_SERVERS]
        response = web.Response(
            status=201,
            body=answer.encode(),  # as text it would get a charset, which SDP has none of
            content_type=SDP_TYPE,
            headers={
                "Location": f"/whip/{room}/{publisher.id}",
                "ETag": publisher.etag,
                "Cache-Control": "no-store",
            },
        )
        for link in (*ice_links(servers), transcript_link(session.id)):
            response.headers.add("Link", link)
        return response

    async def _refuse(self, publisher: Publisher) -> None:
        if publisher.peer is not None:
            await publisher.peer.close("failed", "the offer was not accepted")
        self._publishers.pop(publisher.id, None)
        await publisher.end("failed")

    async def options(self, request: web.Request) -> web.StreamResponse:
        """Say what is possible here; also the answer to a browser's preflight."""
        if "resource" in request.match_info:
            methods, accepts = "GET, HEAD, PATCH, DELETE, OPTIONS", {"Accept-Patch": FRAGMENT_TYPE}
        else:
            methods, accepts = "POST, OPTIONS", {"Accept-Post": SDP_TYPE}
        headers = {"Allow": methods, "Access-Control-Allow-Methods": methods, **accepts}
        return web.Response(headers={**headers, **_PREFLIGHT})

    # ---- the resource -------------------------------------------------------------------------

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Say that the resource is there, and nothing more (RFC 9725 section 4.2)."""
        publisher = self._find(request)
        headers = {"ETag": publisher.etag, "Cache-Control": "no-store"}
        return web.Response(status=204, headers=headers)

    async def patch(self, request: web.Request) -> web.StreamResponse:
        """Take trickled candidates."""
        publisher = self._find(request)
        check_type(request, FRAGMENT_TYPE)
        check_if_match(request.headers.get("If-Match"), publisher.etag)
        await publisher.patch(await read_text(request, MAX_FRAGMENT_BYTES))
        return web.Response(status=204)

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Stop at once; pending finals are still made. If-Match does not matter here."""
        if request.match_info["resource"] not in self._ended:
            publisher = self._find(request)
            if publisher.peer is not None:
                await publisher.peer.close("left", "the publisher sent DELETE")
        return web.Response(status=200)


def _no_such_publisher() -> NotFound:
    return NotFound("there is no such WHIP session (any more); POST an offer to begin one")


def routes() -> Routes:
    """The endpoint and its resources, with a store of their own."""
    publishers = Publishers()
    room = Parameter("room", "The room to publish to", m.RoomName, "path")
    resource = Parameter("resource", "As `Location` named it", str, "path")
    if_match = Parameter("If-Match", "The ETag that came with the answer", str, "header")
    table = Routes("whip")
    table.add(
        "POST",
        ENDPOINT,
        publishers.post,
        summary="Publish by WHIP (RFC 9725)",
        scope="publish",
        description="Send an SDP offer with audio (Opus) and perhaps video (VP8, H.264 baseline); "
        "what is said is captioned in the room. DELETE the `Location` to end it.",
        parameters=(
            room,
            Parameter("name", "The publisher's name in the room; `publisher` if none is given"),
            Parameter("language", "What is spoken, ISO 639-1; detected if not given"),
            Parameter("task", "`translate` captions in English", m.Task),
        ),
        request=(Content("The SDP offer", SDP_TYPE),),
        responses={
            201: Content(
                "The SDP answer",
                SDP_TYPE,
                headers=(
                    ("Location", "The session's resource"),
                    ("ETag", "Names the ICE session, for PATCH"),
                    ("Link", "STUN and TURN servers, and the live transcript"),
                ),
            )
        },
    )
    table.add(
        "PATCH",
        RESOURCE,
        publishers.patch,
        summary="Trickle ICE candidates",
        scope="publish",
        description="An SDP fragment (RFC 8840). An ICE restart is answered with 422.",
        parameters=(room, resource, if_match),
        request=(Content("The fragment", FRAGMENT_TYPE),),
        responses={204: Content("Taken")},
    )
    table.add(
        "DELETE",
        RESOURCE,
        publishers.delete,
        summary="Stop publishing",
        scope="publish",
        parameters=(room, resource),
        responses={200: Content("Stopped")},
    )
    table.add(
        "GET",
        RESOURCE,
        publishers.get,
        summary="Whether a WHIP session is there",
        scope="publish",
        parameters=(room, resource),
        responses={204: Content("It is there")},
    )
    for path in (ENDPOINT, RESOURCE):
        table.add(
            "OPTIONS",
            path,
            publishers.options,
            summary="What WHIP takes here, and CORS preflight",
            public=True,
            parameters=(room,) if path == ENDPOINT else (room, resource),
            responses={200: Content("Methods and media types, in the headers")},
        )
    return table
