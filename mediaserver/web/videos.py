"""``/api/videos``: the library's videos as resources, and the addresses that they play from."""

import re

from aiohttp import web

from mediaserver.identity.principal import Principal
from mediaserver.kernel.errors import BadInput, Conflict, NotFound
from mediaserver.kernel.logging import get_logger
from mediaserver.protocol.rooms import Id
from mediaserver.protocol.videos import (
    MAX_PAGE_VIDEOS,
    SignedPlayback,
    SignRequest,
    VideoChange,
    VideoInfo,
    VideoList,
)
from mediaserver.web import keys
from mediaserver.web.auth import principal_of
from mediaserver.web.bodies import read_json
from mediaserver.web.login import JSON, answer, over_tls
from mediaserver.web.routing import Content, Parameter, Routes

log = get_logger(__name__)

VIDEOS = "/api/videos"
VIDEO_ID = Parameter("video_id", "The video", Id, "path")
_VIDEO = f"{VIDEOS}/{{video_id}}"
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MAX_CURSOR_CHARACTERS = 200
_DEFAULT_PAGE_VIDEOS = 50


def video_id_of(request: web.Request) -> str:
    """Which video the path names. Raises NotFound for what cannot be an id."""
    return checked_id(request.match_info["video_id"])


def checked_id(video_id: str) -> str:
    """Return `video_id`. Raises NotFound for what cannot be one."""
    if _ID.fullmatch(video_id) is None:
        raise _no_video()
    return video_id


def manages(principal: Principal) -> bool:
    """Whether it sees videos that are not ready, too."""
    return principal.may("videos:manage")


async def _list(request: web.Request) -> web.StreamResponse:
    limit = request.query.get("limit", str(_DEFAULT_PAGE_VIDEOS))
    if not (re.fullmatch("[0-9]{1,3}", limit) and 1 <= int(limit) <= MAX_PAGE_VIDEOS):
        raise BadInput(f"limit: 1 to {MAX_PAGE_VIDEOS}", code="bad_limit")
    after = request.query.get("after")
    if after is not None and (len(after) > _MAX_CURSOR_CHARACTERS or not after.isprintable()):
        raise BadInput("after: as `next` of an earlier answer said it", code="bad_cursor")
    only_ready = not manages(principal_of(request))
    found = await request.app[keys.LIBRARY].list(
        after=after, limit=int(limit), only_ready=only_ready
    )
    return answer(found)


async def _get(request: web.Request) -> web.StreamResponse:
    only_ready = not manages(principal_of(request))
    library = request.app[keys.LIBRARY]
    return answer(await library.get(video_id_of(request), only_ready=only_ready))


async def _change(request: web.Request) -> web.StreamResponse:
    asked = await read_json(request, VideoChange)
    video_id = video_id_of(request)
    return answer(await request.app[keys.LIBRARY].rename(video_id, asked.title))


async def _delete(request: web.Request) -> web.StreamResponse:
    video_id = video_id_of(request)
    log.info("video.delete_asked", video_id=video_id, by=principal_of(request).id)
    await request.app[keys.LIBRARY].delete(video_id)
    return web.Response(status=204)


async def _sign(request: web.Request) -> web.StreamResponse:
    asked = await read_json(request, SignRequest)
    try:
        signed = await request.app[keys.LIBRARY].sign(
            checked_id(asked.video_id), subject=asked.subject, expires_in=asked.expires_in
        )
    except Conflict:
        if manages(principal_of(request)):
            raise
        raise _no_video() from None  # that it is not ready is not for everybody
    return answer(signed.model_copy(update={"url": f"{_base_url(request)}{signed.url}"}))


def _base_url(request: web.Request) -> str:
    """Where the asker reaches this server, without a slash at the end."""
    public_url = request.app[keys.SETTINGS].public_url
    if public_url is not None:
        return public_url.rstrip("/")
    return f"{'https' if over_tls(request) else 'http'}://{request.host}"


def _no_video() -> NotFound:
    return NotFound(
        "there is no such video; GET /api/videos lists those there are", code="no_video"
    )


def routes() -> Routes:
    """Videos, and signed addresses of them."""
    table = Routes("videos")
    table.add(
        "GET",
        VIDEOS,
        _list,
        summary="The videos of this server",
        description="With the scope `videos:manage` also those that are not ready.",
        scope="videos",
        parameters=(
            Parameter("after", "`next` of the answer before"),
            Parameter("limit", f"1 to {MAX_PAGE_VIDEOS}, default {_DEFAULT_PAGE_VIDEOS}", int),
        ),
        responses={200: Content("Videos, the newest first", JSON, VideoList)},
    )
    table.add(
        "POST",
        f"{VIDEOS}/sign",
        _sign,
        summary="Get an address that plays a video",
        description="The URL is good for `expires_in` seconds: playing has to begin by then, and "
        "goes on by the cookie that the first answer sets.",
        scope="videos",
        request=(Content("Which video, how long, for whom", JSON, SignRequest),),
        responses={200: Content("Where the media are", JSON, SignedPlayback)},
    )
    table.add(
        "GET",
        _VIDEO,
        _get,
        summary="A video",
        scope="videos",
        parameters=(VIDEO_ID,),
        responses={200: Content("The video", JSON, VideoInfo)},
    )
    table.add(
        "PATCH",
        _VIDEO,
        _change,
        summary="Change a video's title",
        scope="videos:manage",
        parameters=(VIDEO_ID,),
        request=(Content("What changes", JSON, VideoChange),),
        responses={200: Content("The video", JSON, VideoInfo)},
    )
    return table.add(
        "DELETE",
        _VIDEO,
        _delete,
        summary="Delete a video",
        description="For good, also while it is uploaded or prepared.",
        scope="videos:manage",
        parameters=(VIDEO_ID,),
        responses={204: Content("It is gone")},
    )
