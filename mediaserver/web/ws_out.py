"""What a member is told, and which way: over a data channel where that is open, else its WebSocket.

Events of the room's log go both ways, and a member that comes back says up to which number it has
them all. So every number that a member is not told some other way is told by `room.told`, over the
same ordered way as what it stands for; and `pong` says which number was the last.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence

from aiohttp import WSCloseCode

from mediaserver.kernel.channels import ChannelClosed, Outbox
from mediaserver.kernel.errors import SlowConsumer
from mediaserver.protocol.messages import (
    Caption,
    Metrics,
    ServerMessage,
    TrackEnded,
    TrackStarted,
)
from mediaserver.protocol.room_events import Ack, RoomResumed, RoomSnapshot, RoomTold
from mediaserver.sessions.publishing import PeerPublisher
from mediaserver.web.sockets import ClientSocket

OUTBOX_CAPACITY = 1000
SEND_TIMEOUT_S = 10.0
REMEMBERED = 1000
"""Messages without a number whose number is still to come."""

Way = PeerPublisher | None
"""A peer with an open data channel, or (None) the WebSocket."""


class MemberOut:
    """See the module's docstring. Holds everything back until `begin`."""

    def __init__(
        self,
        way_of: Callable[[ServerMessage], Way],
        end: Callable[[int, str], None],
        dropped: Callable[[str], None],
    ) -> None:
        """`end` sends the member away; `dropped` is told where messages are lost."""
        self._way_of = way_of
        self._end = end
        self._dropped = dropped
        self._outbox: Outbox[str] = Outbox(OUTBOX_CAPACITY)
        self._early: list[tuple[ServerMessage, Hashable | None]] | None = []
        self._told: OrderedDict[Hashable, Way] = OrderedDict()
        self._socket_only = False
        self.seq: int | None = None
        """The number of the last event that the member was told."""

    @property
    def begun(self) -> bool:
        """Whether the member was welcomed."""
        return self._early is None

    @property
    def dropped(self) -> int:
        """Messages that gave way to newer ones."""
        return self._outbox.dropped

    def begin(self, first: Sequence[ServerMessage]) -> None:
        """Send `first` (the welcome, and what was so far), then what came meanwhile, and go on."""
        early, self._early = self._early or [], None
        self._outbox.capacity += len(first)  # a member may have missed as many as fit otherwise
        for message in first:
            self.put(message)
        for message, key in early:
            self.put(message, key)
        self._socket_only = False

    def put(self, message: ServerMessage, key: Hashable | None = None) -> None:
        """Queue a message; with a `key` a newer one may replace it unsent."""
        if self._early is not None:
            self._early.append((message, key))
            return
        if isinstance(message, RoomSnapshot | RoomResumed):
            # what belongs to it has to come after it, and what comes later after that
            self._socket_only = True
        by_socket = self._socket_only and not isinstance(message, Metrics)
        way = None if by_socket else self._way_of(message)
        message = self._numbered(message, way)
        if way is not None and way.send(message, key):
            return
        try:
            self._outbox.put(message.wire_text(), key)
        except SlowConsumer as error:
            self._dropped("outbox")
            self._end(error.ws_close_code, error.detail)

    def channels_anew(self) -> None:
        """A peer is being made: use its channels."""
        self._socket_only = False

    def _numbered(self, message: ServerMessage, way: Way) -> ServerMessage:
        """Return what to send for `message`: less, where it was told already."""
        seq = getattr(message, "seq", None)
        if isinstance(message, Ack | RoomResumed):
            return message
        if seq is None:
            if (name := _name(message)) is not None:
                self._told[name] = way
                while len(self._told) > REMEMBERED:
                    self._told.popitem(last=False)
            return message
        if isinstance(message, RoomSnapshot):
            self.seq = seq
        elif self.seq is None or seq > self.seq:
            self.seq = seq
            name = _name(message)
            if name in self._told and self._told.pop(name) is way:
                return RoomTold(seq=seq)
        return message

    async def run(self, socket: ClientSocket) -> None:
        """Send what is queued, until `close`."""
        while True:
            try:
                text = await self._outbox.get()
            except ChannelClosed:
                return
            try:
                await socket.send(text, SEND_TIMEOUT_S)
            except TimeoutError:
                self._end(WSCloseCode.TRY_AGAIN_LATER, "messages are not read")
                return
            except ConnectionError:
                return  # the reader notices

    def close(self) -> None:
        """Take no more; what is queued is still sent."""
        self._outbox.close()


def _name(message: ServerMessage) -> Hashable | None:
    """What is told at once without a number, and again with one when it is in the log."""
    match message:
        case Caption(final=True, caption_id=caption_id):
            return ("caption", caption_id)
        case TrackStarted(track_id=track_id) | TrackEnded(track_id=track_id):
            return (message.type, track_id)
        case _:
            return None
