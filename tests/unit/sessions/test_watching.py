"""An instance has room for so many viewers."""

from typing import Any, cast

import pytest

from mediaserver.kernel.clocks import SystemClock
from mediaserver.kernel.errors import Overloaded
from mediaserver.relay.broadcasts import Broadcasts
from mediaserver.rtc.peer import Peers, RtcConfig
from mediaserver.sessions.watching import Watching


async def test_viewers_are_limited() -> None:
    peers = Peers(RtcConfig(ice_interfaces=("127.0.0.1",)))
    links = cast(Any, None)  # none is asked for
    watching = Watching(peers, Broadcasts(), links, SystemClock(), most=2)
    try:
        watching.take_place()
        watching.take_place()
        with pytest.raises(Overloaded) as full:
            watching.take_place()
        assert full.value.specific_code == "watch_full"
        assert full.value.retry_after_s
        watching.give_place()
        watching.take_place()
        assert watching.viewers == 2
    finally:
        await peers.aclose()
