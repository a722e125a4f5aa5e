import pytest

from mediaserver.kernel.errors import NotFound
from mediaserver.protocol.room_commands import QueueAdd, QueueItemNew, QueueRemove
from mediaserver.rooms.videos import NoVideos, Video, with_video


class Shelf:
    """A library of one video."""

    async def find(self, video_id: str) -> Video:
        if video_id != "v_1":
            raise NotFound("there is no such video", code="no_video")
        return Video("The film", 90.0)


def add(**item: object) -> QueueAdd:
    return QueueAdd(type="queue.add", id="1", item=QueueItemNew.model_validate(item))


async def test_a_video_of_the_server_comes_with_its_title_and_its_length() -> None:
    asked = await with_video(add(kind="vod", video_id="v_1", duration_s=5), Shelf())
    assert (asked.item.title, asked.item.duration_s) == ("The film", 90.0)
    named = await with_video(add(kind="vod", video_id="v_1", title="Friday"), Shelf())
    assert named.item.title == "Friday"
    with pytest.raises(NotFound):
        await with_video(add(kind="vod", video_id="v_2"), Shelf())


async def test_a_server_without_a_library_has_no_videos_and_all_else_passes() -> None:
    with pytest.raises(NotFound, match="HLS or MP4") as refused:
        await with_video(add(kind="vod", video_id="v_1"), NoVideos())
    assert refused.value.specific_code == "no_video"
    film = add(kind="mp4", url="https://films.example/film.mp4")
    assert await with_video(film, NoVideos()) is film
    removal = QueueRemove(type="queue.remove", id="2", item_id="q_1")
    assert await with_video(removal, NoVideos()) is removal
