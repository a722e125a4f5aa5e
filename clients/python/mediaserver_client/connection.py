"""One WebSocket connection to a server: the handshake, sending, receiving, liveness."""

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit, urlunsplit

import aiohttp

from mediaserver_client.errors import (
    ClientError,
    ProtocolError,
    Refused,
    ServerUnreachable,
    SessionClosed,
)
from mediaserver_client.messages import (
    ClientMessage,
    ErrorMessage,
    Ping,
    Problem,
    ServerMessage,
    Welcome,
    decode,
    encode,
    from_json,
)

SEND_TIMEOUT_S = 10.0
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
MOST_EARLY = 1000
_MAX_PROBLEM_BYTES = 64 * 1024
_ENDS = (
    aiohttp.WSMsgType.CLOSE,
    aiohttp.WSMsgType.CLOSING,
    aiohttp.WSMsgType.CLOSED,
    aiohttp.WSMsgType.ERROR,
)
_FINAL_CLOSE_CODES = {1000, 1002, 1003, 1007, 1008, 1009, 4400, 4401, 4403, 4404, 4409, 4410}
"""After these a new try would end the same; the others (1001, 1006, 1011, 1012, 1013) may not."""


def endpoint(server: str, path: str, *, websocket: bool = False) -> str:
    """Return the URL of `path` on `server` (http, https, ws, wss, or a bare host:port).

    Raises ServerUnreachable for what is no address.
    """
    parts = urlsplit(server if "://" in server else f"http://{server}")
    secure = {"http": False, "ws": False, "https": True, "wss": True}.get(parts.scheme)
    if secure is None or not parts.netloc:
        raise ServerUnreachable(f"{server!r} is no server address; try http://127.0.0.1:8080")
    scheme = ("wss" if secure else "ws") if websocket else ("https" if secure else "http")
    return urlunsplit((scheme, parts.netloc, parts.path.rstrip("/") + path, "", ""))


@dataclass(frozen=True)
class Closed:
    """How a connection ended."""

    code: int
    """RFC 6455 section 7.4; 1006 when the connection just broke."""
    reason: str = ""
    problem: Problem | None = None
    """What the server said last, if that was an error."""

    @property
    def final(self) -> bool:
        """Whether connecting again is pointless."""
        return self.code in _FINAL_CLOSE_CODES

    @property
    def retry_after_s(self) -> float | None:
        """When the server wants to see us again."""
        return self.problem.retry_after_s if self.problem is not None else None

    def describe(self) -> str:
        """Return a sentence for people."""
        if self.problem is not None:
            return f"{self.problem.title}: {self.problem.detail}"
        if self.reason:
            return f"{self.reason} (code {self.code})"
        return "the connection broke" if self.code == 1006 else f"closed with code {self.code}"


class Connection:
    """An open connection that was welcomed. `serve` has to run for anything to be received."""

    def __init__(
        self,
        ws: aiohttp.ClientWebSocketResponse,
        welcome: Welcome,
        early: Sequence[ServerMessage] = (),
    ) -> None:
        self.welcome = welcome
        self._early = early
        self.closed = False
        self._ws = ws
        self._heard_at = time.monotonic()

    @classmethod
    async def open(
        cls, http: aiohttp.ClientSession, url: str, params: dict[str, str], timeout_s: float
    ) -> Self:
        """Connect and wait for `welcome`. Raises ServerUnreachable, Refused, ProtocolError."""
        try:
            async with asyncio.timeout(timeout_s):
                ws = await http.ws_connect(
                    url,
                    params=params,
                    max_msg_size=MAX_MESSAGE_BYTES,
                    timeout=aiohttp.ClientWSTimeout(ws_close=2.0),
                )
                try:
                    return cls(ws, *await _welcome(ws))
                except BaseException:
                    await ws.close()
                    raise
        except TimeoutError:
            raise ServerUnreachable(f"{url} did not answer within {timeout_s:g} s") from None
        except aiohttp.WSServerHandshakeError as error:
            if error.status >= 500:
                raise ServerUnreachable(f"{url} answered {error.status}") from None
            raise ProtocolError(
                f"{url} answered {error.status}: there is no media server at this address"
            ) from None
        except aiohttp.InvalidURL:
            raise ServerUnreachable(f"{url} is no server address") from None
        except (aiohttp.ClientError, OSError) as error:
            raise ServerUnreachable(
                f"no media server answers at {url} ({_reason(error)}); is it running? "
                "`make run` or `mediaserver serve` starts one"
            ) from None

    async def send(self, message: ClientMessage) -> None:
        """Send a message. Raises SessionClosed when the connection is gone."""
        await self._send(encode(message))

    async def send_audio(self, pcm: bytes) -> None:
        """Send audio; waits while the network does not take more. Raises SessionClosed."""
        await self._send(pcm)

    async def _send(self, data: str | bytes) -> None:
        if self.closed or self._ws.closed:
            raise SessionClosed("the connection is closed")
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                if isinstance(data, str):
                    await self._ws.send_str(data)
                else:
                    await self._ws.send_bytes(data)
        except (TimeoutError, OSError, aiohttp.ClientError) as error:
            self.closed = True
            raise SessionClosed(f"the connection broke while sending: {error!r}") from None

    async def serve(self, on_message: Callable[[ServerMessage], None]) -> Closed:
        """Receive until the connection ends, and say how it did."""
        pinging = asyncio.create_task(self._ping())
        problem: Problem | None = None
        try:
            for early in self._early:
                on_message(early)
            while (frame := await self._ws.receive()).type not in _ENDS:
                self._heard_at = time.monotonic()
                if frame.type is not aiohttp.WSMsgType.TEXT:
                    continue
                if (message := decode(frame.data)) is not None:
                    problem = message.problem if isinstance(message, ErrorMessage) else None
                    on_message(message)
            code = self._ws.close_code
            if code is None or pinging.done():
                code = 1006
            reason = frame.extra if frame.type is aiohttp.WSMsgType.CLOSE and frame.extra else ""
            return Closed(code, reason, problem if code != 1000 else None)
        finally:
            self.closed = True
            pinging.cancel()
            await asyncio.wait([pinging], timeout=SEND_TIMEOUT_S)
            await self.close()

    async def _ping(self) -> None:
        """Ping, and end the connection when nothing at all was heard for too long."""
        every_s = max(0.1, self.welcome.ping_interval_s)
        silence_s = 2.5 * every_s
        serial = 0
        with contextlib.suppress(SessionClosed):
            while time.monotonic() - self._heard_at < silence_s:
                serial += 1
                await self.send(Ping(id=str(serial)))
                await asyncio.sleep(every_s)
        self.closed = True
        await self._ws.close()

    async def close(self) -> None:
        """Close the WebSocket; bounded in time, harmless when closed."""
        self.closed = True
        with contextlib.suppress(OSError, aiohttp.ClientError, TimeoutError):
            async with asyncio.timeout(3.0):
                await self._ws.close()


def _reason(error: Exception) -> str:
    """What the system says, without the library's words around it."""
    cause = getattr(error, "os_error", error)
    if isinstance(cause, OSError) and cause.errno is not None and cause.errno > 0:
        return os.strerror(cause.errno)
    return getattr(cause, "strerror", None) or str(cause)


async def _welcome(
    ws: aiohttp.ClientWebSocketResponse,
) -> tuple[Welcome, list[ServerMessage]]:
    """Return the welcome, and what a server sent before it."""
    early: list[ServerMessage] = []
    while True:
        frame = await ws.receive()
        if frame.type is aiohttp.WSMsgType.TEXT:
            message = decode(frame.data)
            if isinstance(message, Welcome):
                if message.protocol != 1:
                    raise ProtocolError(
                        f"the server speaks protocol {message.protocol}, this client 1; upgrade it"
                    )
                return message, early
            if isinstance(message, ErrorMessage):
                raise Refused(message.problem)
            if message is not None and len(early) < MOST_EARLY:
                early.append(message)
        elif frame.type is not aiohttp.WSMsgType.BINARY:
            raise ServerUnreachable(
                f"the server closed the connection before `welcome` (code {ws.close_code})"
            )


async def problems(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """An aiohttp middleware: an answer that is a problem (RFC 9457) is raised as Refused."""
    response = await handler(request)
    if response.status < 400:
        return response
    problem: Problem | None = None
    if response.content_type == "application/problem+json":
        body = await response.content.read(_MAX_PROBLEM_BYTES)
        with contextlib.suppress(ValueError, ClientError):
            problem = from_json(Problem, json.loads(body))
    if problem is None and response.status in (401, 403, 429, 503):
        problem = _bare_problem(response)
    if problem is not None:
        response.close()
        raise Refused(problem)
    return response


def _bare_problem(response: aiohttp.ClientResponse) -> Problem:
    retry_after = response.headers.get("Retry-After", "")
    return Problem(
        type="about:blank",
        title=response.reason or "refused",
        status=response.status,
        detail=f"{response.url.path} answered {response.status}",
        code={401: "unauthorized", 403: "forbidden", 429: "too_many_requests"}.get(
            response.status, "unavailable"
        ),
        retryable=response.status in (429, 503),
        retry_after_s=float(retry_after) if retry_after.isdecimal() else None,
    )
