"""Everything that is asked over HTTP."""

from mediaserver_client.accounts_api import AccountsApi
from mediaserver_client.rooms_api import RoomsApi
from mediaserver_client.videos_api import VideosApi


class Api(AccountsApi, RoomsApi, VideosApi):
    """Requests to a server, or to one of several that share their rooms.

    ``async with Api("http://127.0.0.1:8080", user="ann", password="…") as api: …``

    Credentials are one of `api_key`, `token` (a room token, or a function that gets one) and `user`
    with `password`; none on a server with open access, or for guests. `api_key` defaults to the
    environment's MEDIASERVER_API_KEY. Logging in and refreshing happen by themselves.

    All methods raise Refused (with the server's problem), ServerUnreachable and ProtocolError.
    """

    async def text(self, path: str) -> str:
        """GET something that is text."""
        return str(await self._request("GET", path, as_json=False))
