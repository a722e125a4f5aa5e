"""Rooms and accounts over HTTP."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import asdict
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack

import aiohttp

from mediaserver_client.connection import endpoint, problems
from mediaserver_client.credentials import Credentials, Tokens, TokenSource
from mediaserver_client.errors import ClientError, ProtocolError, Refused, ServerUnreachable
from mediaserver_client.room_types import (
    ChatPage,
    Grants,
    Invitation,
    JoinTicket,
    MemberInfo,
    RoomChange,
    RoomInfo,
    RoomRole,
    RoomToken,
    SettingChanges,
    Visibility,
)
from mediaserver_client.wire import from_json

T = TypeVar("T")
_ROOMS, _AUTH = "/api/v1/rooms", "/api/v1/auth"


class _NotSent(ServerUnreachable):
    """The request never reached a server."""


class Api:
    """Requests to a server, or to one of several that share their rooms.

    ``async with Api("http://127.0.0.1:8080", user="ann", password="…") as api: …``

    Credentials are one of `api_key`, `token` (a room token, or a function that gets one) and `user`
    with `password`; none on a server with open access, or for guests. `api_key` defaults to the
    environment's MEDIASERVER_API_KEY. Logging in and refreshing happen by themselves.

    All methods raise Refused (with the server's problem), ServerUnreachable and ProtocolError.
    """

    def __init__(
        self,
        servers: str | Sequence[str] = "http://127.0.0.1:8080",
        *,
        api_key: str | None = None,
        token: str | TokenSource | None = None,
        user: str | None = None,
        password: str | None = None,
        timeout_s: float = 10.0,
    ) -> None:
        self.servers = (servers,) if isinstance(servers, str) else tuple(servers)
        if not self.servers:
            raise ClientError("name a server at least")
        if (user is None) != (password is None):
            raise ClientError("user and password go together")
        if user is None and token is None:
            api_key = api_key or os.environ.get("MEDIASERVER_API_KEY") or None
        self.credentials = Credentials(api_key=api_key, token=token, user=user, password=password)
        self.credentials.bind(self._login, self._refresh)
        self._at = 0
        self._timeout_s = timeout_s
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(middlewares=(problems,))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of the connections. The login goes on: `logout` ends it."""
        if self._http is not None:
            await self._http.close()
            self._http = None

    @property
    def server(self) -> str:
        """The server that is asked now."""
        return self.servers[self._at]

    def next_server(self) -> None:
        """Ask the next one from now on."""
        self._at = (self._at + 1) % len(self.servers)

    # ---- who one is ------------------------------------------------------------------------

    async def login(self, user: str, password: str) -> Tokens:
        """Log in; what is asked from now on is asked as this user."""
        tokens = await self._login(user, password)
        self.credentials.take(tokens)
        return tokens

    async def refresh(self) -> Tokens:
        """Renew the tokens now; they are renewed by themselves before they expire."""
        await self.credentials.authorization(renew=True)
        if self.credentials.tokens is None:
            raise ClientError("there is nothing to refresh: log in first")
        return self.credentials.tokens

    async def logout(self, *, everywhere: bool = False) -> None:
        """End the login, or all of this user's."""
        await self._request("POST", f"{_AUTH}/logout{'-all' if everywhere else ''}", {})
        self.credentials.take(None)

    async def change_password(self, current: str, new: str) -> Tokens:
        """Change one's own password; ends all other logins."""
        body = {"current": current, "new": new}
        tokens = await self._get(Tokens, "POST", f"{_AUTH}/password", body)
        self.credentials.take(tokens)
        return tokens

    async def me(self) -> dict[str, Any]:
        """As whom requests are made: kind, id, name, role, scopes, …"""
        return _object(await self._request("GET", f"{_AUTH}/me"))

    # ---- rooms -----------------------------------------------------------------------------

    async def create_room(
        self,
        name: str | None = None,
        *,
        title: str = "",
        visibility: Visibility = "public",
        persistent: bool = False,
        slow_mode_s: float = 0.0,
        everyone_controls: bool = True,
    ) -> RoomInfo:
        """Make a room; whoever made it is its host when joining. `name` is made up if None."""
        body = {
            "name": name,
            "title": title,
            "visibility": visibility,
            "persistent": persistent,
            "slow_mode_s": slow_mode_s,
            "everyone_controls": everyone_controls,
        }
        return await self._get(RoomInfo, "POST", _ROOMS, body)

    async def rooms(self) -> tuple[RoomInfo, ...]:
        """The public rooms, and one's own."""
        return _list(RoomInfo, await self._request("GET", _ROOMS), "rooms")

    async def room(self, room: str) -> RoomInfo:
        """A room as it is now."""
        return await self._get(RoomInfo, "GET", f"{_ROOMS}/{room}")

    async def change_room(self, room: str, **changes: Unpack[SettingChanges]) -> RoomInfo:
        """Change a room's settings; what is not named stays."""
        body = asdict(RoomChange(**changes))
        return await self._get(RoomInfo, "PATCH", f"{_ROOMS}/{room}", body)

    async def close_room(self, room: str) -> None:
        """Close a room: all members are sent away."""
        await self._request("DELETE", f"{_ROOMS}/{room}")

    async def members(self, room: str) -> tuple[MemberInfo, ...]:
        """Who is in a room."""
        return _list(MemberInfo, await self._request("GET", f"{_ROOMS}/{room}/members"), "members")

    async def chat_history(
        self, room: str, *, before: str | None = None, limit: int = 50
    ) -> ChatPage:
        """Messages in their order: the newest, or those before the message `before`."""
        params = {"limit": str(limit), **({"before": before} if before is not None else {})}
        answer = await self._request("GET", f"{_ROOMS}/{room}/chat", params=params)
        return from_json(ChatPage, answer)

    # ---- the way in ------------------------------------------------------------------------

    async def invite(
        self,
        room: str,
        *,
        role: Literal["cohost", "member", "listener"] = "member",
        expires_in_s: int = 86_400,
        max_uses: int | None = None,
    ) -> Invitation:
        """Make an invitation: its `url` is for people, its `token` for `join_room`."""
        body = {"role": role, "expires_in_s": expires_in_s, "max_uses": max_uses}
        return await self._get(Invitation, "POST", f"{_ROOMS}/{room}/invitations", body)

    async def invitations(self, room: str) -> tuple[Invitation, ...]:
        """Those that are still good, without tokens."""
        answer = await self._request("GET", f"{_ROOMS}/{room}/invitations")
        return _list(Invitation, answer, "invitations")

    async def revoke_invitation(self, room: str, invitation_id: str) -> None:
        """Take an invitation back."""
        await self._request("DELETE", f"{_ROOMS}/{room}/invitations/{invitation_id}")

    async def join(self, room: str, *, name: str = "", invitation: str | None = None) -> JoinTicket:
        """Ask for a ticket. `join_room` does this by itself."""
        body = {"name": name, "invitation": invitation}
        path = f"{_ROOMS}/{room}/join"
        return from_json(JoinTicket, await self._request("POST", path, body, repeatable=True))

    async def make_room_token(
        self,
        room: str,
        subject: str,
        *,
        grants: Grants,
        name: str = "",
        role: RoomRole = "member",
        expires_in_s: int = 3600,
    ) -> RoomToken:
        """Make a token for a user of one's own, who may then `join_room` with it.

        `subject` is your id of that user. Needs the scope `rooms:tokens`.
        """
        body = {
            "subject": subject,
            "name": name,
            "role": role,
            "grants": asdict(grants),
            "expires_in_s": expires_in_s,
        }
        return await self._get(RoomToken, "POST", f"{_ROOMS}/{room}/tokens", body)

    async def text(self, path: str) -> str:
        """GET something that is text."""
        return str(await self._request("GET", path, as_json=False))

    # ---- requests --------------------------------------------------------------------------

    async def _login(self, user: str, password: str) -> Tokens:
        return await self._tokens("login", {"name": user, "password": password})

    async def _refresh(self, token: str) -> Tokens:
        return await self._tokens("refresh", {"refresh_token": token})

    async def _tokens(self, how: str, body: dict[str, str]) -> Tokens:
        answer = await self._request(
            "POST", f"{_AUTH}/{how}", body, authorised=False, repeatable=True
        )
        return from_json(Tokens, answer)

    async def _get(self, kind: type[T], method: str, path: str, body: Any = None) -> T:
        return from_json(kind, await self._request(method, path, body))

    async def _request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        params: dict[str, str] | None = None,
        authorised: bool = True,
        repeatable: bool | None = None,
        as_json: bool = True,
    ) -> Any:
        """Ask the servers in turn; with a token that was refused, once more with a new one.

        What is not `repeatable` is asked of another server only where it never reached the first.
        """
        renewed = False
        tries_left = len(self.servers)
        while True:
            headers = {}
            if authorised:
                given = await self.credentials.authorization(renew=renewed)
                headers = {"Authorization": f"Bearer {given}"} if given else {}
            try:
                return await self._send(method, path, body, params, headers, as_json)
            except ServerUnreachable as error:
                tries_left -= 1
                safe = method != "POST" if repeatable is None else repeatable
                if not tries_left or not (safe or isinstance(error, _NotSent)):
                    raise
                self.next_server()
            except Refused as error:
                again = error.problem.status == 401 and self.credentials.renewable
                if not (again and authorised) or renewed:
                    raise
                renewed = True

    async def _send(
        self,
        method: str,
        path: str,
        body: Any,
        params: dict[str, str] | None,
        headers: dict[str, str],
        as_json: bool,
    ) -> Any:
        if self._http is None:
            raise ClientError("not open: use `async with Api(…) as api`")
        url = endpoint(self.server, path)
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._http.request(
                    method, url, json=body, params=params, headers=headers
                ) as response,
            ):
                response.raise_for_status()
                if response.status == 204:
                    return None
                return await response.json() if as_json else await response.text()
        except aiohttp.ClientResponseError as error:
            if error.status >= 500:
                raise ServerUnreachable(f"{url} answered {error.status}") from None
            raise ProtocolError(
                f"{method} {url} answered {error.status}, not as expected"
            ) from None
        except TimeoutError:
            raise ServerUnreachable(f"{url} did not answer within {self._timeout_s:g} s") from None
        except aiohttp.ClientConnectorError as error:
            raise _NotSent(f"no media server answers at {url}: {error}") from None
        except (aiohttp.ClientError, OSError) as error:
            raise ServerUnreachable(f"no media server answers at {url}: {error}") from None
        except ValueError:
            raise ProtocolError(f"{url} answered with what is not JSON") from None


def _object(answer: Any) -> dict[str, Any]:
    if not isinstance(answer, dict):
        raise ProtocolError("the server's answer is not an object")
    return answer


def _list(kind: type[T], answer: Any, name: str) -> tuple[T, ...]:
    items = _object(answer).get(name)
    if not isinstance(items, list):
        raise ProtocolError(f"the server's answer has no list {name}")
    return tuple(from_json(kind, item) for item in items)
