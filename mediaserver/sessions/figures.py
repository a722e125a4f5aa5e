"""What sessions and captions amount to, for Prometheus."""

from collections.abc import Callable
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

StreamKind = Literal["ws", "whip", "listen"]

_DELAY_BUCKETS_S = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.5, 10.0, 15.0, 30.0)


class Figures:
    """Counters and gauges of one application, in its registry. Every method is cheap."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._streams = Gauge(
            "mediaserver_streams", "Audio tracks being captioned", ("kind",), registry=registry
        )
        self._audio = Counter(
            "mediaserver_audio_seconds", "Audio accepted for captions", registry=registry
        )
        self._words = Counter("mediaserver_words_final", "Final words sent", registry=registry)
        self._delay = Histogram(
            "mediaserver_caption_delay_seconds",
            "From the end of a word in the audio to its sending as final",
            buckets=_DELAY_BUCKETS_S,
            registry=registry,
        )
        self._drops = Counter(
            "mediaserver_drops", "What a full queue dropped", ("place",), registry=registry
        )
        self._opened = Counter(
            "mediaserver_sessions_opened", "Sessions opened", ("kind",), registry=registry
        )
        self._closed = Counter(
            "mediaserver_sessions_closed", "Sessions ended", ("reason",), registry=registry
        )
        self._restarts = Counter(
            "mediaserver_worker_restarts", "Local speech workers started anew", registry=registry
        )
        self._rooms = Gauge(
            "mediaserver_rooms", "Rooms that somebody on this instance is in", registry=registry
        )
        self._members = Gauge(
            "mediaserver_room_members", "Members connected to this instance", registry=registry
        )
        self._broadcasts = Gauge(
            "mediaserver_broadcasts", "Members here whose media can be watched", registry=registry
        )
        self._viewers = Gauge(
            "mediaserver_viewers", "Viewers of broadcasts on this instance", registry=registry
        )
        self._links = Gauge(
            "mediaserver_links",
            "Broadcasts that come from (in) and go to (out) other instances",
            ("way",),
            registry=registry,
        )
        self._refused = Counter(
            "mediaserver_refused",
            "What was refused for want of capacity",
            ("code",),
            registry=registry,
        )

    def stream_opened(self, kind: StreamKind) -> None:
        """A track began to be captioned."""
        self._streams.labels(kind).inc()

    def stream_closed(self, kind: StreamKind) -> None:
        """A track counted by `stream_opened` is over."""
        self._streams.labels(kind).dec()

    def audio_accepted(self, duration_s: float) -> None:
        """Audio came in that will be captioned."""
        self._audio.inc(duration_s)

    def word_final(self, delay_s: float) -> None:
        """A word was sent as final, `delay_s` after its end in the audio."""
        self._words.inc()
        self._delay.observe(max(0.0, delay_s))

    def dropped(self, place: str, count: int = 1) -> None:
        """A bounded queue dropped `count` items; `place` is one of a few fixed names."""
        self._drops.labels(place).inc(count)

    def session_opened(self, kind: StreamKind) -> None:
        """A session began."""
        self._opened.labels(kind).inc()

    def session_closed(self, reason: str) -> None:
        """A session ended; `reason` is one of a few fixed words."""
        self._closed.labels(reason).inc()

    def worker_restarted(self) -> None:
        """A local speech worker died and was started anew."""
        self._restarts.inc()

    def watch_rooms(self, rooms: Callable[[], int], members: Callable[[], int]) -> None:
        """Ask how many rooms and members there are here whenever figures are read."""
        self._rooms.set_function(rooms)
        self._members.set_function(members)

    def watch_relay(
        self,
        broadcasts: Callable[[], int],
        viewers: Callable[[], int],
        links: Callable[[], int],
        feeds: Callable[[], int],
    ) -> None:
        """Ask what is broadcast, watched and relayed here whenever figures are read."""
        self._broadcasts.set_function(broadcasts)
        self._viewers.set_function(viewers)
        self._links.labels("in").set_function(links)
        self._links.labels("out").set_function(feeds)

    def refused(self, code: str) -> None:
        """A request, session or track was refused for now; `code` is the problem's."""
        self._refused.labels(code).inc()
