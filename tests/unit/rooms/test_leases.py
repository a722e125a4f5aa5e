import asyncio

from mediaserver.kernel.clocks import SystemClock
from mediaserver.rooms.leases import Leases
from mediaserver.stores.redis import RedisStore
from tests.valkey import ValkeyProcess

URL = "http://127.0.0.1:8080"


async def nobody(_room: str, _instance: str) -> None:
    raise AssertionError("nobody is dead")


async def test_the_address_is_known_as_soon_as_it_was_said(valkey_server: ValkeyProcess) -> None:
    """Also where a renewal without it is on its way, over a connection that is still opened."""
    for number in range(20):
        async with RedisStore(valkey_server.url) as store:
            leases = Leases(store, f"i_{number}", SystemClock(), nobody)
            before = asyncio.create_task(leases.renew())
            await asyncio.sleep(0)
            leases.advertise(URL)
            await leases.renew()
            await before
            assert await leases.address_of(f"i_{number}") == URL
            await leases.end()
            assert await leases.address_of(f"i_{number}") is None
