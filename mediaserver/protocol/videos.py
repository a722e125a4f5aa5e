"""Videos of this server: what HTTP takes and gives under ``/api/videos``; where the media are.

The media's addresses are signed and short-lived; `library.signing` says how.
"""

from typing import Annotated, Literal

from pydantic import Field

from mediaserver.protocol.base import Inbound, Wire
from mediaserver.protocol.room_commands import Command
from mediaserver.protocol.rooms import Id

VideoState = Literal["uploading", "processing", "ready", "failed"]
"""`failed` says why in `problem`, and stays until it is deleted."""
VideoTitle = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
Subject = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._:@-]+$")]

SIGNED_S = 300
"""How long a playback URL is good for, if nothing else is asked."""
MIN_SIGNED_S, MAX_SIGNED_S = 30, 3600
MAX_PAGE_VIDEOS = 100


class VideoInfo(Wire):
    """One video."""

    video_id: str
    title: str
    state: VideoState
    created_at: float
    """Unix seconds."""
    owner: str
    """The name of whoever uploaded it."""
    size_bytes: int
    """Of the uploaded file, as its uploader said."""
    received_bytes: int
    progress: float
    """0 to 1: of what the state says is going on; 1 once it is ready."""
    duration_s: float | None = None
    width: int | None = None
    height: int | None = None
    """Pixels as they are shown; null where there are no pictures."""
    content_type: str | None = None
    """Of what is played: ``video/mp4``, ``video/webm``, ``audio/mp4``, ``audio/webm``."""
    problem: str | None = None
    """Why it failed, for people."""


class VideoList(Wire):
    """GET /api/videos: the newest first."""

    videos: tuple[VideoInfo, ...]
    next: str | None = None
    """What to ask with as `after` for those that follow; null where there are no more."""


class VideoChange(Inbound):
    """PATCH /api/videos/{video_id}."""

    title: VideoTitle


class SignRequest(Inbound):
    """POST /api/videos/sign."""

    video_id: Id
    expires_in: Annotated[int, Field(ge=MIN_SIGNED_S, le=MAX_SIGNED_S)] = SIGNED_S
    """Seconds in which playing must begin."""
    subject: Subject | None = None
    """For whom: signed with the URL and written to the log where it is used."""


class SegmentAuth(Wire):
    """How requests after the first one are let in, once the URL itself has expired."""

    mode: Literal["cookie"] = "cookie"
    """The first answer sets a cookie for this video's addresses alone."""
    name: str
    path: str
    expires_in: int
    """Seconds from its being set."""


class SignedPlayback(Wire):
    """Where a video's media are, for a while."""

    provider: Literal["local"] = "local"
    video_id: str
    title: str
    duration_s: float
    content_type: str
    url: str
    """Signed. By HTTP it is absolute; in a room it is relative to the server that one talks to."""
    manifest_path: str
    """The path that was signed."""
    kid: str
    """Which key."""
    expires_at: int
    """Unix seconds."""
    expires_in: int
    refresh_after: int
    """Seconds; from then on a URL that is to be given to somebody is better asked for anew."""
    segment_auth: SegmentAuth
    captions: tuple[str, ...] = ()
    storyboard: str | None = None
    drm: str | None = None
    alternates: tuple[str, ...] = ()
    """The last four are there for packaged videos; this server's are single files so far."""


class VideoOpen(Command):
    """Where the media of an item of kind `vod` are, for this member. Needs `can_subscribe`.

    Answered by `video.source`, or by `error`.
    """

    type: Literal["video.open"]
    item_id: Id


class VideoSource(Wire):
    """The answer to `video.open`."""

    type: Literal["video.source"] = "video.source"
    id: str | None
    item_id: str
    source: SignedPlayback
