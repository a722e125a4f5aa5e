"""`GET /api/v1/sessions/{session_id}/transcript.{vtt,srt,json,txt}`, live and after the end."""

import asyncio
from dataclasses import dataclass, replace

from aiohttp import web
from aiohttp.typedefs import Handler

from mediaserver.captions import subtitles
from mediaserver.captions.transcript import Transcript
from mediaserver.kernel.errors import BadInput, NotFound
from mediaserver.kernel.logging import get_logger
from mediaserver.protocol.transcripts import SessionTranscript
from mediaserver.sessions.transcripts import (
    SessionText,
    TranscribedSession,
    is_session_id,
    text_of,
)
from mediaserver.web import keys
from mediaserver.web.routing import Content, Parameter, Routes

log = get_logger(__name__)

CONTENT_TYPES = {
    "vtt": "text/vtt",
    "srt": "application/x-subrip",
    "json": "application/json",
    "txt": "text/plain",
}
_CUES_A_WRITE = 100


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a follower is waited for."""

    keep_alive_s: float = 15.0
    """After so long without a cue an empty line is written (which WebVTT allows), so that a dead
    connection is noticed."""
    write_s: float = 30.0
    """A follower that takes nothing for so long is let go. Nothing is queued for it meanwhile."""


def _session_id(request: web.Request) -> str:
    session_id = request.match_info["session_id"]
    if not is_session_id(session_id):
        raise _no_transcript()
    return session_id


def _no_transcript() -> NotFound:
    return NotFound(
        "there is no transcript of this session: its id is wrong, nothing was said, or it is "
        "older than transcripts are kept",
        code="no_transcript",
    )


def _live(request: web.Request, session_id: str) -> TranscribedSession | None:
    try:
        return request.app[keys.SESSIONS].get(session_id)
    except NotFound:
        return None


async def _said(request: web.Request, session_id: str) -> SessionText:
    session = _live(request, session_id)
    if session is not None:
        return text_of(session)
    saved = await request.app[keys.TRANSCRIPTS].find(session_id)
    if saved is None:
        raise _no_transcript()
    return saved


def _flag(request: web.Request, name: str) -> bool:
    value = request.query.get(name, "").lower()
    if value not in ("", "0", "1", "true", "false"):
        raise BadInput(f"{name} is 1 or 0")
    return value in ("1", "true")


def _since(request: web.Request) -> int:
    value = request.query.get("since", "0")
    if not (value.isascii() and value.isdigit() and len(value) < 10):
        raise BadInput("since is the number of a cue, 0 or more")
    return int(value)


def _serve(kind: str, patience: Patience) -> Handler:
    async def serve(request: web.Request) -> web.StreamResponse:
        session_id = _session_id(request)
        if kind == "vtt" and _flag(request, "follow") and request.method == "GET":
            session = _live(request, session_id)
            if session is not None:
                return await _follow(request, session.transcript, _since(request), patience)
        said = await _said(request, session_id)
        since = _since(request)
        if since:
            fresh = tuple(cue for cue in said.cues if cue.number > since or cue.number == 0)
            said = replace(said, cues=fresh)
        headers = {"Cache-Control": "no-store"}
        if _flag(request, "download"):
            headers["Content-Disposition"] = f'attachment; filename="{session_id}.{kind}"'
        text = await asyncio.to_thread(_render, kind, said)
        return web.Response(
            text=text, content_type=CONTENT_TYPES[kind], charset="utf-8", headers=headers
        )

    return serve


def _render(kind: str, said: SessionText) -> str:
    if kind == "json":
        return said.to_json()
    if kind == "vtt":
        return subtitles.webvtt(said.cues, said.dropped_cues)
    return subtitles.srt(said.cues) if kind == "srt" else subtitles.text(said.cues)


async def _follow(
    request: web.Request, transcript: Transcript, since: int, patience: Patience
) -> web.StreamResponse:
    """Send a growing WebVTT until the session ends: each cue once it is closed.

    The transcript itself is the queue, so a slow reader costs nothing but its connection.
    """
    response = web.StreamResponse(
        headers={
            "Content-Type": "text/vtt; charset=utf-8",
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",
        }
    )

    async def write(text: str) -> None:
        try:
            async with asyncio.timeout(patience.write_s):
                await response.write(text.encode("utf-8", "replace"))
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError("the reader takes nothing") from None

    changed = asyncio.Event()
    leave = transcript.subscribe(changed.set)
    try:
        await response.prepare(request)
        language = subtitles.language_of(transcript.cues_since(since))
        await write(subtitles.webvtt_head(language, transcript.dropped_cues))
        while True:
            changed.clear()
            fresh = transcript.cues_since(since)[:_CUES_A_WRITE]
            if fresh:
                since = fresh[-1].number
                await write("".join(subtitles.webvtt_cue(cue) for cue in fresh))
            elif transcript.closed:
                break
            elif not await _happens(changed, patience.keep_alive_s):
                await write("\n")
        await response.write_eof()
    finally:
        leave()
    return response


async def _happens(event: asyncio.Event, timeout_s: float) -> bool:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return False
    return True


_ID = Parameter("session_id", "As `welcome.session_id` says it", place="path")
_SINCE = Parameter("since", "Only cues after the one of this number", int)
_DOWNLOAD = Parameter("download", "1: as a file to be saved", bool)
_FOLLOW = Parameter("follow", "1: go on with new cues until the session ends", bool)


def routes(patience: Patience | None = None) -> Routes:
    """The four formats."""
    table = Routes("transcripts")
    titles = {"vtt": "WebVTT", "srt": "SubRip", "json": "JSON", "txt": "plain text"}
    for kind, title in titles.items():
        schema = SessionTranscript if kind == "json" else str
        follow = (_FOLLOW,) if kind == "vtt" else ()
        table.add(
            "GET",
            f"/api/v1/sessions/{{session_id}}/transcript.{kind}",
            _serve(kind, patience or Patience()),
            summary=f"A session's transcript as {title}",
            scope="transcripts",
            description="Final words only, while the session lives and after its end.",
            parameters=(_ID, _SINCE, _DOWNLOAD, *follow),
            responses={200: Content("The transcript", CONTENT_TYPES[kind], schema)},
        )
    return table
