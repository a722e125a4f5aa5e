"""Videos of this server, as rooms see them: an item of kind `vod` names one.

Rooms do not know the library; whoever composes the server gives `RoomHub` something that does. It
is asked when an item is added, so that nobody queues what cannot be watched; where the media are is
asked anew by whoever plays them, as such addresses are signed and short-lived.
"""

from dataclasses import dataclass
from typing import Protocol, TypeVar

from mediaserver.kernel.errors import NotFound
from mediaserver.protocol.room_commands import QueueAdd

Command = TypeVar("Command")


@dataclass(frozen=True, slots=True)
class Video:
    """What a room has to know of a video."""

    title: str
    duration_s: float


class Videos(Protocol):
    """The library."""

    async def find(self, video_id: str) -> Video:
        """Return a video that is ready to be watched.

        Raises NotFound (`no_video`), Conflict (`video_not_ready`), Unavailable.
        """
        ...


class NoVideos:
    """The library of a server that has none."""

    async def find(self, video_id: str) -> Video:
        """Raises NotFound."""
        raise NotFound(
            "this server keeps no videos of its own; add the video by its HLS or MP4 address",
            code="no_video",
        )


async def with_video(command: Command, videos: Videos) -> Command:
    """Return a command as it is; a `queue.add` of a video with the video's title and length.

    What the library says of the length counts; a title that was given stays. Raises what `find`
    raises.
    """
    if not isinstance(command, QueueAdd) or command.item.video_id is None:
        return command
    if command.item.kind != "vod":
        return command
    found = await videos.find(command.item.video_id)
    title = command.item.title or found.title
    item = command.item.model_copy(update={"title": title, "duration_s": found.duration_s})
    return command.model_copy(update={"item": item})
