"""Videos of a server, and the messages that open them: see `mediaserver.protocol.videos`."""

from dataclasses import dataclass
from typing import ClassVar, Literal

VideoState = Literal["uploading", "processing", "ready", "failed"]
"""`failed` says why in `problem`, and stays until it is deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoInfo:
    """One video."""

    video_id: str
    title: str
    state: VideoState
    created_at: float
    """Unix seconds."""
    owner: str
    """The name of whoever uploaded it."""
    size_bytes: int
    """Of the uploaded file."""
    received_bytes: int
    progress: float
    """0 to 1: of what the state says is going on; 1 once it is ready."""
    duration_s: float | None = None
    width: int | None = None
    height: int | None = None
    """Pixels as they are shown; None where there are no pictures."""
    content_type: str | None = None
    """Of the media that are played."""
    problem: str | None = None
    """Why it failed, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoList:
    """Videos, the newest first."""

    videos: tuple[VideoInfo, ...]
    next: str | None = None
    """What to ask with as `after` for those that follow; None where there are no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentAuth:
    """How requests after the first one are let in, once the URL itself has expired."""

    mode: Literal["cookie"] = "cookie"
    """The first answer sets a cookie for this video's addresses alone."""
    name: str
    path: str
    expires_in: int
    """Seconds from its being set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedPlayback:
    """Where a video's media are, for a while."""

    provider: Literal["local"] = "local"
    video_id: str
    title: str
    duration_s: float
    content_type: str
    url: str
    """Signed and absolute. Whoever has it may play the video: give it to nobody else."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoOpen:
    """Where the media of an item of kind `vod` are; answered by `VideoSource` or an error."""

    TYPE: ClassVar = "video.open"
    id: str | None = None
    item_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoSource:
    """The answer to `VideoOpen`. Its `url` is relative to the server that one talks to."""

    TYPE: ClassVar = "video.source"
    id: str | None
    item_id: str
    source: SignedPlayback
