"""The folder: one writer over all processes, deletions, faults of the disk."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mediaserver.kernel.errors import InsufficientStorage, Locked, NotFound, Unavailable
from mediaserver.library.folder import Folder

VIDEO = "v_" + "a" * 20
APPEND = """
import asyncio, sys
from pathlib import Path
from mediaserver.library.folder import Folder

async def main():
    folder = Folder(Path(sys.argv[1]))
    writer = await folder.writer(sys.argv[2])
    await writer.write(b"other")
    print("has it", flush=True)
    sys.stdin.read()

asyncio.run(main())
"""


@pytest.fixture
async def folder(tmp_path: Path) -> AsyncIterator[Folder]:
    folder = Folder(tmp_path / "videos")
    await folder.open()
    yield folder
    folder.close()


async def test_appending_goes_on_from_the_end(folder: Folder) -> None:
    await folder.make(VIDEO)
    for wanted, data in ((0, b"abc"), (3, b"defg")):
        writer = await folder.writer(VIDEO)
        assert writer.offset == wanted
        await writer.write(data)
        assert writer.offset == wanted + len(data)
        await writer.sync()
        await writer.close()
        await writer.close()
    assert folder.upload_path(VIDEO).read_bytes() == b"abcdefg"
    assert await folder.received_bytes(VIDEO) == 7
    assert await folder.received_bytes("v_" + "b" * 20) is None


async def test_one_writer_at_a_time_also_over_processes(folder: Folder) -> None:
    await folder.make(VIDEO)
    other = subprocess.Popen(
        [sys.executable, "-c", APPEND, str(folder.place), VIDEO],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert other.stdout is not None
    try:
        assert await asyncio.to_thread(other.stdout.readline) == b"has it\n"
        with pytest.raises(Locked) as caught:
            await folder.writer(VIDEO)
        assert caught.value.status == 423
        assert caught.value.retryable
    finally:
        other.kill()  # whoever dies holds nothing
        other.communicate()
    writer = await folder.writer(VIDEO)
    assert writer.offset == 5
    with pytest.raises(Locked):
        await folder.writer(VIDEO)
    await writer.close()


async def test_a_writer_whose_opener_was_cancelled_is_closed(folder: Folder) -> None:
    await folder.make(VIDEO)
    for _ in range(20):
        opening = asyncio.ensure_future(folder.writer(VIDEO))
        await asyncio.sleep(0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
    async with asyncio.timeout(20):
        while True:
            try:
                writer = await folder.writer(VIDEO)
            except Locked:
                await asyncio.sleep(0.01)
            else:
                break
    await writer.close()


async def test_a_cancelled_write_ends_before_the_file_is_closed(folder: Folder) -> None:
    await folder.make(VIDEO)
    writer = await folder.writer(VIDEO)
    writing = asyncio.ensure_future(writer.write(b"x" * 50_000_000))
    await asyncio.sleep(0.005)
    writing.cancel()
    await asyncio.wait([writing])
    await writer.close()
    assert await folder.received_bytes(VIDEO) == writer.offset


async def test_what_is_deleted_takes_no_more(folder: Folder) -> None:
    await folder.make(VIDEO)
    writer = await folder.writer(VIDEO)
    await writer.write(b"abc")
    await folder.remove(VIDEO)
    with pytest.raises(NotFound) as caught:
        await writer.write(b"def")
    assert caught.value.specific_code == "no_upload"
    with pytest.raises(NotFound):
        await writer.sync()
    await writer.close()
    with pytest.raises(NotFound):
        await folder.writer(VIDEO)
    assert list(folder.place.iterdir()) == []
    await folder.remove(VIDEO)


@pytest.mark.parametrize("video_id", ["", "..", "v_x", "v_" + "a" * 19 + "/", "a" * 22, "upload"])
async def test_no_id_leads_out_of_the_folder(folder: Folder, video_id: str) -> None:
    with pytest.raises(NotFound):
        folder.path(video_id)
    with pytest.raises(NotFound):
        await folder.remove(video_id)


@pytest.mark.parametrize("name", ["..", ".", "../x", "a/b"])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(NotFound):
        Folder(tmp_path).path(VIDEO, name)


async def test_work_begins_in_an_empty_folder_and_what_is_made_is_taken(folder: Folder) -> None:
    await folder.make(VIDEO)
    left = await folder.begin_work(VIDEO, "l_1")
    (left / "media.mp4").write_bytes(b"half")
    work = await folder.begin_work(VIDEO, "l_2")
    assert not left.exists()
    (work / "media.mp4").write_bytes(b"whole")
    assert not await folder.has_media(VIDEO)
    await folder.take(work, "media.mp4", "video-1.mp4")
    assert await folder.has_media(VIDEO)
    await folder.keep_only(VIDEO, "video-1.mp4")
    assert [path.name for path in folder.path(VIDEO).iterdir()] == ["video-1.mp4"]
    assert folder.path(VIDEO, "video-1.mp4").read_bytes() == b"whole"


async def test_what_was_left_of_deletions_is_swept_and_nothing_else(folder: Folder) -> None:
    (folder.place / ".deleted-v_1-2" / "deep").mkdir(parents=True)
    (folder.place / "mine").mkdir()
    await folder.make(VIDEO)
    await folder.sweep()
    assert sorted(path.name for path in folder.place.iterdir()) == ["mine", VIDEO]
    assert await folder.video_ids(0.0 - 1) == [VIDEO]
    assert await folder.video_ids(60.0) == []


async def test_a_full_disk_and_a_missing_folder_are_said(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "gone")
    for call in (folder.check(), folder.free_bytes(), folder.make(VIDEO)):
        with pytest.raises(Unavailable) as caught:
            await call
        assert caught.value.specific_code == "storage_down"
    await folder.open()
    await folder.check()
    assert await folder.free_bytes() > 0
    await folder.make(VIDEO)
    folder.upload_path(VIDEO).unlink()
    folder.upload_path(VIDEO).symlink_to("/etc/passwd")
    with pytest.raises(Unavailable):
        await folder.writer(VIDEO)
    folder.close()
    with pytest.raises(Unavailable):
        await folder.free_bytes()


@pytest.mark.skipif(not os.access("/dev/full", os.W_OK), reason="there is no /dev/full")
async def test_no_room_left_is_insufficient_storage(folder: Folder) -> None:
    await folder.make(VIDEO)
    writer = await folder.writer(VIDEO)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, writer._fd)
    os.close(full)
    with pytest.raises(InsufficientStorage):
        await writer.write(b"abc")
    assert writer.offset == 0
    await writer.close()
