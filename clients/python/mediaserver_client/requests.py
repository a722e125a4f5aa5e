"""HTTP requests to one of several servers, with credentials that are renewed by themselves."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from types import TracebackType
from typing import Any, Self, TypedDict, TypeVar, Unpack

import aiohttp

from mediaserver_client.connection import endpoint, problems
from mediaserver_client.credentials import Credentials, Tokens, TokenSource
from mediaserver_client.errors import ClientError, ProtocolError, Refused, ServerUnreachable
from mediaserver_client.room_types import RoomToken
from mediaserver_client.wire import from_json

T = TypeVar("T")
ROOMS, AUTH = "/api/v1/rooms", "/api/v1/auth"
_NO_TOTAL = aiohttp.ClientTimeout(total=None)
"""What is asked has its own limit, which may be moved."""


class _Asked(TypedDict, total=False):
    """What a request may carry."""

    json: Any
    data: AsyncIterable[bytes]
    params: dict[str, str] | None
    headers: dict[str, str]


class _NotSent(ServerUnreachable):
    """The request never reached a server."""


class Requests:
    """What all parts of `Api` stand on."""

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
        self.credentials.bind(self._login, self._refresh, self._renew_guest)
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

    # ---- requests --------------------------------------------------------------------------

    async def _login(self, user: str, password: str) -> Tokens:
        return await self._tokens("login", {"name": user, "password": password})

    async def _refresh(self, token: str) -> Tokens:
        return await self._tokens("refresh", {"refresh_token": token})

    async def _tokens(self, how: str, body: dict[str, str]) -> Tokens:
        answer = await self._request(
            "POST", f"{AUTH}/{how}", body, authorised=False, repeatable=True
        )
        return from_json(Tokens, answer)

    async def _renew_guest(self, room: str, token: str) -> str:
        answer = await self._request("POST", f"{ROOMS}/{room}/tokens/renew", bearer=token)
        return from_json(RoomToken, answer).token

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
        bearer: str | None = None,
        repeatable: bool | None = None,
        as_json: bool = True,
        headers: dict[str, str] | None = None,
        header: str | None = None,
    ) -> Any:
        """Ask the servers in turn; with a token that was refused, once more with a new one.

        `bearer` is sent as it is, instead of what the credentials say. With `header` that header
        of the answer is returned instead of its body.

        What is not `repeatable` is asked of another server only where it never reached the first.
        """
        renewed = False
        tries_left = len(self.servers)
        while True:
            given = bearer
            if authorised and given is None:
                given = await self.credentials.authorization(renew=renewed)
            sent = {**(headers or {}), **({"Authorization": f"Bearer {given}"} if given else {})}
            try:
                return await self._send(method, path, body, params, sent, as_json, header)
            except ServerUnreachable as error:
                tries_left -= 1
                safe = method != "POST" if repeatable is None else repeatable
                if not tries_left or not (safe or isinstance(error, _NotSent)):
                    raise
                self.next_server()
            except Refused as error:
                again = error.problem.status == 401 and self.credentials.renewable
                if not (again and authorised and bearer is None) or renewed:
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
        header: str | None,
    ) -> Any:
        async with self._answer(
            method, path, self._timeout_s, json=body, params=params, headers=headers
        ) as response:
            if header is not None:
                return response.headers.get(header)
            if response.status == 204:
                return None
            return await response.json() if as_json else await response.text()

    @contextlib.asynccontextmanager
    async def _answer(
        self,
        method: str,
        path: str,
        patience: float | asyncio.Timeout,
        **what: Unpack[_Asked],
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask this server, once, for `patience` at most (seconds, or what is moved meanwhile).

        Raises Refused, ServerUnreachable, ProtocolError.
        """
        if self._http is None:
            raise ClientError("not open: use `async with Api(…) as api`")
        url = endpoint(self.server, path)
        limit = asyncio.timeout(patience) if isinstance(patience, int | float) else patience
        try:
            async with (
                limit,
                self._http.request(method, url, timeout=_NO_TOTAL, **what) as response,
            ):
                response.raise_for_status()
                yield response
        except aiohttp.ClientResponseError as error:
            if error.status >= 500:
                raise ServerUnreachable(f"{url} answered {error.status}") from None
            raise ProtocolError(
                f"{method} {url} answered {error.status}, not as expected"
            ) from None
        except TimeoutError:
            told = f" within {patience:g} s" if isinstance(patience, int | float) else ""
            raise ServerUnreachable(f"{url} did not answer{told}") from None
        except aiohttp.ClientConnectorError as error:
            raise _NotSent(f"no media server answers at {url}: {error}") from None
        except (aiohttp.ClientError, OSError) as error:
            raise ServerUnreachable(f"no media server answers at {url}: {error}") from None
        except ValueError:
            raise ProtocolError(f"{url} answered with what is not JSON") from None


def as_list(kind: type[T], answer: Any, name: str) -> tuple[T, ...]:
    """Read the list `name` of an answer. Raises ProtocolError."""
    items = answer.get(name) if isinstance(answer, dict) else None
    if not isinstance(items, list):
        raise ProtocolError(f"the server's answer has no list {name}")
    return tuple(from_json(kind, item) for item in items)
