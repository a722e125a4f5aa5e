"""The data channels `captions`, `chat` and `metrics`: bounded both ways.

The server opens them on every peer that negotiated data, ordered and reliable. What is sent goes
through an `Outbox` each: partials coalesce, finals are kept up to a bound, and a peer that does
not take them is let go (`on_failure`). aiortc itself buffers whatever it is given, so it is given
no more than `BUFFERED_BYTES` at a time. What comes in is bounded too (`internals`).
"""

import asyncio
from collections.abc import Callable, Hashable

from aiortc import RTCDataChannel, RTCPeerConnection

from mediaserver.kernel.channels import ChannelClosed, Outbox
from mediaserver.kernel.errors import (
    BadInput,
    MediaServerError,
    NotFound,
    SlowConsumer,
    TooLarge,
    UnsupportedMedia,
)
from mediaserver.kernel.logging import get_logger
from mediaserver.kernel.tasks import TaskScope
from mediaserver.protocol.problems import ErrorMessage, problem_of
from mediaserver.rtc import internals

log = get_logger(__name__)

LABELS = ("captions", "chat", "metrics")
MAX_MESSAGE_BYTES = 262_144
"""In both directions. Browsers refuse to send more, since our SDP says so."""
MAX_UNFINISHED_BYTES = 2 * MAX_MESSAGE_BYTES
OUTBOX_MESSAGES = 500
"""Finals kept for a peer that does not take them: minutes of speech."""
BUFFERED_BYTES = 65_536
"""Given to aiortc before it has sent them, a channel."""
STALLED_AFTER_S = 15.0
"""A channel that takes nothing for so long is not read."""
MAX_FOREIGN_CHANNELS = 8
"""Channels that the client opened. It needs one to negotiate data at all; they carry nothing."""

OnMessage = Callable[[str, str], None]
OnFailure = Callable[[SlowConsumer | BadInput], None]


class DataChannels:
    """All data channels of one peer."""

    def __init__(self, scope: TaskScope, on_message: OnMessage, on_failure: OnFailure) -> None:
        self._scope = scope
        self._on_message = on_message
        self._on_failure = on_failure
        self._senders: dict[str, _Sender] = {}
        self._connection: RTCPeerConnection | None = None
        self._foreign = 0

    def create(self, connection: RTCPeerConnection) -> None:
        """Open the channels; once, after an offer with a data channel section was applied."""
        if self._senders or connection.sctp is None:
            return
        self._connection = connection
        internals.bound_reassembly(connection.sctp, MAX_UNFINISHED_BYTES, self._flooded)
        for label in LABELS:
            channel = connection.createDataChannel(label)
            sender = _Sender(channel, self._on_failure)
            self._senders[label] = sender
            channel.on("message", self._listener(channel))
            self._scope.spawn(f"channel-{label}", sender.run())
        connection.on("datachannel", self._foreign_channel)

    def is_open(self, label: str) -> bool:
        """Whether messages reach the peer on this channel."""
        sender = self._senders.get(label)
        return sender is not None and sender.is_open

    @property
    def dropped(self) -> int:
        """Partials that gave way to newer ones or to finals."""
        return sum(sender.outbox.dropped for sender in self._senders.values())

    def send(
        self,
        label: str,
        text: str,
        key: Hashable | None = None,
        replaces: Hashable | None = None,
    ) -> bool:
        """Queue a message; False if the channel is not open (then nothing is queued).

        A newer message replaces an unsent one of the same `key`; a message without a key is kept.
        `replaces` names a key whose unsent message is out of date (a final's partial). A peer that
        does not read is reported to `on_failure`. Raises TooLarge.
        """
        if len(text) > MAX_MESSAGE_BYTES or len(text.encode()) > MAX_MESSAGE_BYTES:
            raise TooLarge(f"a data channel message has at most {MAX_MESSAGE_BYTES} bytes")
        sender = self._senders.get(label)
        if sender is None or not sender.is_open:
            return False
        sender.put(text, key, replaces)
        return True

    def close(self) -> None:
        """Take no more messages; what is queued is still sent."""
        for sender in self._senders.values():
            sender.outbox.close()

    async def flush(self, timeout_s: float) -> bool:
        """Wait until the peer has acknowledged all that was queued; False if it does not."""
        try:
            async with asyncio.timeout(timeout_s):
                while not self._delivered():  # noqa: ASYNC110 (SCTP tells nobody of a SACK)
                    await asyncio.sleep(0.01)
        except TimeoutError:
            return False
        return True

    def _delivered(self) -> bool:
        sctp = self._connection.sctp if self._connection is not None else None
        open_senders = [sender for sender in self._senders.values() if sender.is_open]
        if sctp is None or not open_senders:
            return True
        return not any(sender.waiting for sender in open_senders) and internals.is_delivered(sctp)

    # ---- in -----------------------------------------------------------------------------------

    def _listener(self, channel: RTCDataChannel) -> Callable[[str | bytes], None]:
        def on_message(message: str | bytes) -> None:
            try:
                self._on_message(channel.label, _checked(message))
            except MediaServerError as error:
                self._refuse(channel, error)

        return on_message

    def _refuse(self, channel: RTCDataChannel, error: MediaServerError) -> None:
        text = ErrorMessage(problem=problem_of(error)).model_dump_json()
        sender = self._senders.get(channel.label)
        if sender is not None and sender.channel is channel:
            sender.put(text, key="refused")  # coalesced: a flood is answered once
        elif channel.readyState == "open":
            channel.send(text)

    def _foreign_channel(self, channel: RTCDataChannel) -> None:
        self._foreign += 1
        if self._foreign > MAX_FOREIGN_CHANNELS:
            self._on_failure(
                BadInput(f"more than {MAX_FOREIGN_CHANNELS} data channels were opened")
            )
            return

        def on_message(_message: str | bytes) -> None:
            channel.remove_all_listeners("message")
            error = NotFound(
                "nobody listens on this data channel; the server opens captions, chat and metrics"
            )
            self._refuse(channel, error)

        channel.on("message", on_message)

    def _flooded(self) -> None:
        self._on_failure(TooLarge(f"a data channel message has at most {MAX_MESSAGE_BYTES} bytes"))


def _checked(message: str | bytes) -> str:
    if isinstance(message, bytes):
        raise UnsupportedMedia("data channels carry JSON as text; this message is binary")
    if len(message) > MAX_MESSAGE_BYTES or len(message.encode()) > MAX_MESSAGE_BYTES:
        raise TooLarge(f"a data channel message has at most {MAX_MESSAGE_BYTES} bytes")
    return message


class _Sender:
    """Sends what is in one channel's outbox as fast as the peer takes it."""

    def __init__(self, channel: RTCDataChannel, on_failure: OnFailure) -> None:
        self.channel = channel
        self.outbox: Outbox[str] = Outbox(OUTBOX_MESSAGES)
        self._on_failure = on_failure
        self._changed = asyncio.Event()
        channel.bufferedAmountLowThreshold = BUFFERED_BYTES // 2
        for event in ("open", "close", "bufferedamountlow"):
            channel.on(event, self._changed.set)

    @property
    def is_open(self) -> bool:
        return self.channel.readyState == "open"

    @property
    def waiting(self) -> bool:
        """Whether something is queued, here or at aiortc."""
        return len(self.outbox) > 0 or self.channel.bufferedAmount > 0

    def put(self, text: str, key: Hashable | None, replaces: Hashable | None = None) -> None:
        if replaces is not None:
            self.outbox.discard(replaces)
        try:
            self.outbox.put(text, key)
        except SlowConsumer as error:
            self._on_failure(error)

    async def run(self) -> None:
        while self.channel.readyState == "connecting":
            await self._change()
        while self.is_open:
            if self.channel.bufferedAmount >= BUFFERED_BYTES:
                if not await self._change(STALLED_AFTER_S):
                    self._on_failure(
                        SlowConsumer(f"the data channel took nothing for {STALLED_AFTER_S:g} s")
                    )
                    return
                continue
            try:
                # Taken out only when it can go, so that a partial can be replaced till then.
                text = await self.outbox.get()
            except ChannelClosed:
                return
            self._send(text)

    def _send(self, text: str) -> None:
        limit_bytes = internals.largest_message_bytes(self.channel.transport)
        if limit_bytes and len(text.encode()) > limit_bytes:
            log.warning("channel.message_too_large", label=self.channel.label, limit=limit_bytes)
        elif self.is_open:
            self.channel.send(text)

    async def _change(self, timeout_s: float | None = None) -> bool:
        self._changed.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True
