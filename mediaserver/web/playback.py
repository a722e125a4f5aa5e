"""``GET /media/videos/…``: a video's media, for whoever has a signed address or its cookie."""

import asyncio
import os
import re

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from mediaserver.kernel.errors import Forbidden
from mediaserver.library.service import COOKIE
from mediaserver.web import keys
from mediaserver.web.login import over_tls
from mediaserver.web.routing import Content, Parameter, Routes
from mediaserver.web.videos import VIDEO_ID

_PATH = "/media/videos/{video_id}/{file}"
_MAX_AGE_S = 300
_SIGNED = ("exp", "kid", "sub", "sig")
_SEVERAL_RANGES = re.compile(r"bytes=[0-9\s-]*,[0-9\s,-]*", re.IGNORECASE)


class MediaResponse(web.FileResponse):
    """A file with ranges, as RFC 9110 section 14 has them.

    aiohttp's answers 416 where a Range may or must be left alone (several ranges at once, units
    that it does not know), and does not look at entity tags in If-Range.
    """

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send the head and the file."""
        if "Range" in request.headers and not await self._range_counts(request):
            kept = request.headers.copy()
            kept.popall("Range")
            request = request.clone(headers=kept)
        return await super().prepare(request)

    async def _range_counts(self, request: web.BaseRequest) -> bool:
        wanted = request.headers["Range"].strip()
        if not wanted.lower().startswith("bytes=") or _SEVERAL_RANGES.fullmatch(wanted):
            return False
        condition = request.headers.get("If-Range", "").strip()
        if not condition.startswith(('"', "W/")):
            return True
        try:
            found = await asyncio.to_thread(os.stat, self._path)
        except OSError:
            return True  # it is gone: 404 follows
        return condition == f'"{found.st_mtime_ns:x}-{found.st_size:x}"'


async def _play(request: web.Request) -> web.StreamResponse:
    """Raises Forbidden, Gone, NotFound, Unavailable."""
    settings = request.app[keys.SETTINGS]
    media = await request.app[keys.LIBRARY].media(
        request.rel_url.raw_path, _signed_query(request), request.cookies.get(COOKIE)
    )
    response = MediaResponse(
        media.file,
        headers={
            "Content-Type": media.content_type,
            "Cache-Control": f"private, max-age={_MAX_AGE_S}",
            "Cross-Origin-Resource-Policy": (
                "cross-origin" if settings.cors_origins else "same-site"
            ),
        },
    )
    if media.cookie is not None:
        response.set_cookie(
            media.cookie.name,
            media.cookie.value,
            path=media.cookie.path,
            max_age=media.cookie.max_age_s,
            httponly=True,
            secure=over_tls(request),
            samesite="Lax",
        )
    return response


def _signed_query(request: web.Request) -> dict[str, str]:
    """Return what the signature is about; the query may hold other things. Raises Forbidden."""
    found = {}
    for name in _SIGNED:
        values = request.query.getall(name, [])
        if len(values) > 1:
            raise Forbidden(f"this address is not right: {name} comes twice", code="bad_signature")
        if values:
            found[name] = values[0]
    return found


def routes() -> Routes:
    """The media. The signature is the credential; players ask often, so nothing is counted."""
    ranges = ("Content-Range", "Which bytes these are, of how many")
    tag = ("ETag", "Names these bytes, for If-None-Match and If-Range")
    kind = "video/mp4"
    return Routes("videos").add(
        "GET",
        _PATH,
        _play,
        summary="A video's media, by a signed address",
        description="As `POST /api/videos/sign` gives it. The first answer sets a cookie for this "
        "video alone; with it, playing goes on when the address has expired. 403 `bad_signature`, "
        "410 `url_expired`. `Content-Type` is as the video's `content_type`.",
        public=True,
        limit="none",
        parameters=(
            VIDEO_ID,
            Parameter("file", "As the address has it", str, "path"),
            Parameter("exp", "Until when it is good, Unix seconds"),
            Parameter("kid", "Which key it was signed with"),
            Parameter("sub", "Whom it was made for"),
            Parameter("sig", "The signature"),
            Parameter("Range", "`bytes=FIRST-LAST`; several at once get everything", str, "header"),
        ),
        responses={
            200: Content(
                "All of it", kind, bytes, (tag, ("Set-Cookie", "For this video's addresses"))
            ),
            206: Content("The range", kind, bytes, (tag, ranges)),
            304: Content("It is as If-None-Match says"),
            416: Content("There is no such range", headers=(ranges,)),
        },
    )
