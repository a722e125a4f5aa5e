"""``/api/videos/uploads``: resumable uploads by tus 1.0.0, on any instance.

https://tus.io/protocols/resumable-upload, with creation, termination and expiration. How far an
upload is, is the size of its file: what arrives is kept, however the request ends.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from email.utils import formatdate
from typing import Literal

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler

from mediaserver.kernel.errors import (
    BadInput,
    Conflict,
    NotFound,
    PreconditionFailed,
    UnsupportedMedia,
)
from mediaserver.kernel.logging import get_logger
from mediaserver.library.service import Upload
from mediaserver.web import keys
from mediaserver.web.auth import principal_of
from mediaserver.web.routing import Content, Parameter, Routes
from mediaserver.web.upload_metadata import title_of
from mediaserver.web.videos import VIDEO_ID, VIDEOS, checked_id

log = get_logger(__name__)

TUS_VERSION = "1.0.0"
EXTENSIONS = "creation,termination,expiration"
OFFSET_TYPE = "application/offset+octet-stream"
UPLOADS = f"{VIDEOS}/uploads"
_UPLOAD = f"{UPLOADS}/{{video_id}}"
_OVERRIDE = "X-HTTP-Method-Override"
_MAX_CHUNK_BYTES = 256 * 1024
_MOST_BYTES = 2**62
"""What numbers beyond are taken for: over every limit."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a sender is waited for."""

    stall_s: float = 30.0
    """From which nothing comes for so long is given up; what came is kept."""


class _Body:
    """What a PATCH sends, piece by piece, until it ends, breaks off or stalls."""

    def __init__(self, stream: StreamReader, stall_s: float) -> None:
        self.broken = False
        self.stalled = False
        self._stream = stream
        self._stall_s = stall_s

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield it. Ends without an error in every case: the attributes say how."""
        while True:
            try:
                async with asyncio.timeout(self._stall_s):
                    piece = await self._stream.readany()
            except TimeoutError:
                self.stalled = True
                return
            except (ConnectionError, HttpProcessingError, web.RequestPayloadError):
                self.broken = True
                return
            if not piece:
                return
            for at in range(0, len(piece), _MAX_CHUNK_BYTES):
                yield piece[at : at + _MAX_CHUNK_BYTES]


# ---- headers -------------------------------------------------------------------------------


async def add_tus_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Say which version is spoken, in refusals too; an `on_response_prepare` signal handler."""
    resource = request.match_info.route.resource
    if resource is not None and resource.canonical in (UPLOADS, _UPLOAD):
        response.headers["Tus-Resumable"] = TUS_VERSION
        if response.status == 412:
            response.headers["Tus-Version"] = TUS_VERSION


def _check_version(request: web.Request) -> None:
    told = request.headers.get("Tus-Resumable")
    if told != TUS_VERSION:
        said = "without Tus-Resumable" if told is None else "in another version"
        raise PreconditionFailed(
            f"this address speaks tus {TUS_VERSION}, and was asked {said}: "
            f"send Tus-Resumable: {TUS_VERSION}",
            code="wrong_tus_version",
        )


def _number(request: web.Request, name: str) -> int:
    """Read a header that is a number of bytes. Raises BadInput."""
    value = request.headers.get(name)
    if value is None:
        raise BadInput(f"{name} is missing", code="header_missing")
    if re.fullmatch("[0-9]{1,100}", value) is None:
        raise BadInput(f"{name} is a number of bytes, 0 or more", code="bad_header")
    return min(int(value), _MOST_BYTES)


def _upload_id(request: web.Request) -> str:
    try:
        return checked_id(request.match_info["video_id"])
    except NotFound:
        raise NotFound(
            "there is no such upload (any more); POST begins a new one", code="no_upload"
        ) from None


def _headers(upload: Upload, *, with_length: bool = True) -> dict[str, str]:
    headers = {"Upload-Offset": str(upload.offset), "Cache-Control": "no-store"}
    if with_length:
        headers["Upload-Length"] = str(upload.size_bytes)
    if upload.offset < upload.size_bytes:
        headers["Upload-Expires"] = formatdate(upload.expires_at, usegmt=True)
    return headers


# ---- the handlers --------------------------------------------------------------------------


async def _options(request: web.Request) -> web.StreamResponse:
    return web.Response(
        status=204,
        headers={
            "Tus-Version": TUS_VERSION,
            "Tus-Extension": EXTENSIONS,
            "Tus-Max-Size": str(request.app[keys.SETTINGS].max_video_bytes),
        },
    )


async def _create(request: web.Request) -> web.StreamResponse:
    _check_version(request)
    if "Upload-Defer-Length" in request.headers:
        raise BadInput("the length has to be known: send Upload-Length", code="header_missing")
    size_bytes = _number(request, "Upload-Length")
    if size_bytes == 0:
        raise BadInput("there is nothing in this file", code="empty_upload")
    title = title_of(request.headers.get("Upload-Metadata", ""))
    principal = principal_of(request)
    upload = await request.app[keys.LIBRARY].create(
        title=title,
        size_bytes=size_bytes,
        owner_id=principal.subject or principal.kind,
        owner=principal.name,
    )
    response = web.Response(status=201, headers=_headers(upload, with_length=False))
    response.headers["Location"] = f"{UPLOADS}/{upload.video_id}"
    return response


async def _look(request: web.Request) -> web.StreamResponse:
    _check_version(request)
    upload = await request.app[keys.LIBRARY].upload(_upload_id(request))
    return web.Response(headers=_headers(upload))


async def _append(request: web.Request, patience: Patience) -> web.StreamResponse:
    _check_version(request)
    video_id = _upload_id(request)
    if request.content_type != OFFSET_TYPE:
        raise UnsupportedMedia(f"send the bytes as {OFFSET_TYPE}")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMedia("send the bytes as they are, without Content-Encoding")
    offset = _number(request, "Upload-Offset")
    body = _Body(request.content, patience.stall_s)
    async with contextlib.aclosing(body.chunks()) as chunks:
        upload = await request.app[keys.LIBRARY].append(video_id, offset, chunks)
    log.info(
        "upload.appended",
        video_id=video_id,
        bytes=upload.offset - offset,
        left=upload.size_bytes - upload.offset,
        broken=body.broken,
        stalled=body.stalled,
    )
    if body.broken:
        raise ConnectionResetError("the uploader is gone")
    if body.stalled:
        raise web.HTTPRequestTimeout(
            text=f"nothing came for {patience.stall_s:g} s; what came is kept: ask with HEAD how "
            "much that is, and go on from there"
        )
    return web.Response(status=204, headers=_headers(upload, with_length=False))


async def _terminate(request: web.Request) -> web.StreamResponse:
    _check_version(request)
    video_id, library = _upload_id(request), request.app[keys.LIBRARY]
    upload = await library.upload(video_id)
    if upload.offset >= upload.size_bytes:
        raise Conflict(
            f"this upload is complete; DELETE {VIDEOS}/{video_id} deletes the video",
            code="upload_complete",
        )
    log.info("video.delete_asked", video_id=video_id, by=principal_of(request).id)
    await library.delete(video_id)
    return web.Response(status=204)


# ---- the routes ----------------------------------------------------------------------------

_RESUMABLE = Parameter(
    "Tus-Resumable", "The version of tus", Literal["1.0.0"], "header", required=True
)
_OFFSET = ("Upload-Offset", "How many bytes are there")
_EXPIRES = ("Upload-Expires", "When it is deleted if nothing comes; absent once it is complete")


def routes(patience: Patience | None = None) -> Routes:
    """The creation resource, and the uploads themselves."""
    bounds = patience or Patience()

    async def append(request: web.Request) -> web.StreamResponse:
        return await _append(request, bounds)

    async def override(request: web.Request) -> web.StreamResponse:
        """Do what the header says, for whoever cannot send PATCH and DELETE."""
        match request.headers.get(_OVERRIDE, "").upper():
            case "PATCH":
                return await append(request)
            case "DELETE":
                return await _terminate(request)
            case "HEAD" | "GET":
                return await _look(request)
            case _:
                raise web.HTTPMethodNotAllowed("POST", ["DELETE", "GET", "HEAD", "PATCH"])

    table = Routes("videos")
    table.add(
        "OPTIONS",
        UPLOADS,
        _options,
        summary="What of tus is spoken here",
        public=True,
        responses={
            204: Content(
                "In the headers",
                headers=(
                    ("Tus-Version", TUS_VERSION),
                    ("Tus-Extension", EXTENSIONS),
                    ("Tus-Max-Size", "The largest file, in bytes"),
                ),
            )
        },
    )
    table.add(
        "POST",
        UPLOADS,
        _create,
        summary="Begin an upload (tus 1.0.0)",
        description="The video is there at once, in state `uploading`; its id is the last part of "
        "`Location`.",
        scope="videos:manage",
        parameters=(
            _RESUMABLE,
            Parameter("Upload-Length", "Size of the file in bytes", int, "header", required=True),
            Parameter(
                "Upload-Metadata",
                "`title` or `filename` and their values in base64: `title bXkgZmlsbQ==`; other "
                "names are ignored",
                str,
                "header",
            ),
        ),
        responses={
            201: Content(
                "It may begin",
                headers=(("Location", "Where to PATCH the bytes to"), _OFFSET, _EXPIRES),
            )
        },
    )
    return _upload_routes(table, append, override)


def _upload_routes(table: Routes, append: Handler, override: Handler) -> Routes:
    offset = Parameter("Upload-Offset", "Where these bytes begin", int, "header", required=True)
    taken = Content("They are there", headers=(_OFFSET, _EXPIRES))
    table.add(
        "GET",
        _UPLOAD,
        _look,
        summary="How far an upload is; HEAD does as well",
        scope="videos:manage",
        parameters=(VIDEO_ID, _RESUMABLE),
        responses={
            200: Content(
                "In the headers",
                headers=(_OFFSET, ("Upload-Length", "Size of the file in bytes"), _EXPIRES),
            )
        },
    )
    table.add(
        "PATCH",
        _UPLOAD,
        append,
        summary="Send bytes, from where the upload is",
        description="As many as one likes, best all that are left. What arrives is kept, also "
        "where the connection breaks: ask with HEAD how much that is, on any instance, and go on. "
        "409 `wrong_offset`, 423 `locked` while another request is at it, 408 where nothing comes "
        "for 30 s.",
        scope="videos:manage",
        parameters=(VIDEO_ID, _RESUMABLE, offset),
        request=(Content("The bytes", OFFSET_TYPE, bytes),),
        responses={204: taken},
    )
    table.add(
        "DELETE",
        _UPLOAD,
        _terminate,
        summary="Give an upload up",
        scope="videos:manage",
        parameters=(VIDEO_ID, _RESUMABLE),
        responses={204: Content("It is gone")},
    )
    return table.add(
        "POST",
        _UPLOAD,
        override,
        summary="PATCH, DELETE or HEAD, for who cannot send these",
        scope="videos:manage",
        parameters=(
            VIDEO_ID,
            _RESUMABLE,
            Parameter(_OVERRIDE, "What to do instead", str, "header", required=True),
        ),
        responses={200: Content("As HEAD"), 204: Content("As PATCH or DELETE")},
    )
