"""The library of videos over HTTP: uploaded, listed, changed, and where they play from."""

import asyncio
import mimetypes
from base64 import b64encode
from pathlib import Path

from mediaserver_client.backoff import Backoff
from mediaserver_client.errors import ClientError, ProtocolError
from mediaserver_client.requests import Requests
from mediaserver_client.upload import TUS_VERSION, OnProgress, Upload
from mediaserver_client.video_types import SignedPlayback, VideoInfo, VideoList
from mediaserver_client.wire import from_json

VIDEOS = "/api/videos"
UPLOADS = f"{VIDEOS}/uploads"
_LOOK_S = 2.0


class VideosApi(Requests):
    """The part of `Api` that is about videos."""

    async def videos(self, *, after: str | None = None, limit: int = 50) -> VideoList:
        """The newest videos, or those that follow after `next` of an earlier answer.

        With the scope `videos:manage` also those that are not ready.
        """
        params = {"limit": str(limit), **({"after": after} if after is not None else {})}
        return from_json(VideoList, await self._request("GET", VIDEOS, params=params))

    async def video(self, video_id: str) -> VideoInfo:
        """One video."""
        return await self._get(VideoInfo, "GET", f"{VIDEOS}/{video_id}")

    async def upload_video(
        self,
        path: str | Path,
        title: str = "",
        *,
        on_progress: OnProgress | None = None,
        resume: str | None = None,
        reconnect_s: float = 60.0,
    ) -> VideoInfo:
        """Send a file, called `title` or as the file is; return it as soon as all of it is there.

        A connection that breaks is made anew, to the next server where there are several, and the
        upload goes on from what is there; it is given up where that fails for `reconnect_s`. Give
        ``on_progress(sent_bytes, size_bytes)`` to be told how far it is, and as `resume` the id of
        a video in state `uploading` to go on with an upload of an earlier run, of the same file.
        The server then prepares the video: see `ready_video`. Needs the scope `videos:manage`.

        Raises Refused (`too_large`, `insufficient_storage`, …), ServerUnreachable, ProtocolError,
        ClientError where the file changed, OSError where it cannot be read.
        """
        path = Path(path)
        size_bytes = (await asyncio.to_thread(path.stat)).st_size
        if resume is None:
            video_id = await self._create_upload(path, title, size_bytes)
        else:
            video_id = resume
            begun = await self.video(video_id)
            if begun.size_bytes != size_bytes:
                raise ClientError(
                    f"{path} is not what was uploaded as {video_id}: it has {size_bytes} bytes "
                    f"instead of {begun.size_bytes}"
                )
        upload = Upload(self, f"{UPLOADS}/{video_id}", path, size_bytes, on_progress, reconnect_s)
        await upload.run(0 if resume is None else None)
        return await self.video(video_id)

    async def _create_upload(self, path: Path, title: str, size_bytes: int) -> str:
        told = {"title": title, "filename": path.name}
        kind = mimetypes.guess_type(path.name)[0]
        if kind is not None:
            told["filetype"] = kind
        metadata = ",".join(
            f"{name} {b64encode(value.encode()).decode()}" for name, value in told.items() if value
        )
        headers = {
            "Tus-Resumable": TUS_VERSION,
            "Upload-Length": str(size_bytes),
            "Upload-Metadata": metadata,
        }
        location = await self._request("POST", UPLOADS, headers=headers, header="Location")
        video_id = str(location or "").rstrip("/").rpartition("/")[2]
        if not video_id:
            raise ProtocolError("the server does not say where the upload goes")
        return video_id

    async def ready_video(self, video_id: str, *, timeout_s: float = 3600.0) -> VideoInfo:
        """Wait until a video can be played. Raises ClientError if it failed, TimeoutError."""
        backoff = Backoff(most_s=_LOOK_S)
        async with asyncio.timeout(timeout_s):
            video = await self.video(video_id)
            while video.state not in ("ready", "failed"):
                await asyncio.sleep(backoff.next_s())
                video = await self.video(video_id)
        if video.state == "failed":
            raise ClientError(f"{video.title} cannot be played: {video.problem}")
        return video

    async def rename_video(self, video_id: str, title: str) -> VideoInfo:
        """Change a video's title. Needs the scope `videos:manage`, as deleting does."""
        return await self._get(VideoInfo, "PATCH", f"{VIDEOS}/{video_id}", {"title": title})

    async def delete_video(self, video_id: str) -> None:
        """Delete a video for good, also while it is uploaded or prepared."""
        await self._request("DELETE", f"{VIDEOS}/{video_id}")

    async def sign_video(
        self, video_id: str, *, expires_in: int = 300, subject: str | None = None
    ) -> SignedPlayback:
        """Get an address that plays a video, if playing begins within `expires_in` seconds.

        `subject` says for whom, and is signed with it.
        """
        body = {"video_id": video_id, "expires_in": expires_in, "subject": subject}
        answer = await self._request("POST", f"{VIDEOS}/sign", body, repeatable=True)
        return from_json(SignedPlayback, answer)
