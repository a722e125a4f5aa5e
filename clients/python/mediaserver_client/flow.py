"""How much audio may be sent now. Pure.

The server says once a second how much audio waits there (`Metrics.queue_depth_s`), and refuses
audio when too much does. So what waits is kept under `most_waiting_s`, and the rest stays here.
While no metrics come, audio may be sent at the speed of speech.
"""

SILENT_S = 5.0
"""Without metrics for so long, the clock alone decides."""


class Flow:
    """Credit in seconds of audio."""

    def __init__(self, now_s: float, most_waiting_s: float) -> None:
        self._most_s = most_waiting_s
        self._credit_s = most_waiting_s
        self._at_s = self._heard_s = now_s

    def heard(self, queue_depth_s: float, now_s: float) -> None:
        """Metrics came: `queue_depth_s` of audio wait on the server."""
        self._at_s = self._heard_s = now_s
        self._credit_s = self._most_s - queue_depth_s

    def spend(self, audio_s: float) -> None:
        """Audio was sent."""
        self._credit_s -= audio_s

    def wait_s(self, now_s: float) -> float:
        """Return how long to wait before asking again; 0 to send now."""
        clock_from_s = max(self._at_s, self._heard_s + SILENT_S)
        self._credit_s = min(self._most_s, self._credit_s + max(0.0, now_s - clock_from_s))
        self._at_s = now_s
        if self._credit_s > 0:
            return 0.0
        return max(0.05, self._heard_s + SILENT_S - now_s, -self._credit_s)
