import asyncio
from collections.abc import Hashable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaserver.kernel.channels import Channel, ChannelClosed, Latest, Outbox, WhenFull
from mediaserver.kernel.errors import SlowConsumer

SOON_S = 15.0


# ---- Channel -------------------------------------------------------------------------------


async def test_a_channel_is_first_in_first_out_and_ends_after_its_last_item() -> None:
    channel: Channel[int] = Channel(3)
    for item in (1, 2, 3):
        assert channel.put_nowait(item)
    channel.close()
    assert [item async for item in channel] == [1, 2, 3]
    with pytest.raises(ChannelClosed):
        await channel.get()
    with pytest.raises(ChannelClosed):
        channel.put_nowait(4)
    with pytest.raises(ChannelClosed):
        await channel.put(4)


def test_a_full_channel_refuses_or_drops_the_oldest_and_counts() -> None:
    refusing: Channel[int] = Channel(2, WhenFull.REFUSE)
    dropping: Channel[int] = Channel(2, WhenFull.DROP_OLDEST)
    assert [refusing.put_nowait(i) for i in range(5)] == [True, True, False, False, False]
    assert [dropping.put_nowait(i) for i in range(5)] == [True, True, False, False, False]
    assert (refusing.dropped, dropping.dropped) == (3, 3)
    assert (list(refusing._items), list(dropping._items)) == ([0, 1], [3, 4])


async def test_put_waits_for_room() -> None:
    channel: Channel[int] = Channel(1)
    await channel.put(1)
    waiting = asyncio.create_task(channel.put(2))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    assert await channel.get() == 1
    async with asyncio.timeout(SOON_S):
        await waiting
    assert await channel.get() == 2


async def test_closing_wakes_readers_and_writers() -> None:
    empty: Channel[int] = Channel(1)
    full: Channel[int] = Channel(1)
    full.put_nowait(1)
    reader, writer = asyncio.create_task(empty.get()), asyncio.create_task(full.put(2))
    await asyncio.sleep(0.01)
    empty.close()
    full.close()
    for task in (reader, writer):
        with pytest.raises(ChannelClosed):
            async with asyncio.timeout(SOON_S):
                await task
    assert full.closed


async def test_two_readers_share_what_comes() -> None:
    channel: Channel[int] = Channel(100)
    got: list[int] = []

    async def read() -> None:
        async for item in channel:
            got.append(item)
            await asyncio.sleep(0)

    readers = [asyncio.create_task(read()) for _ in range(3)]
    for item in range(50):
        await channel.put(item)
        await asyncio.sleep(0)
    channel.close()
    async with asyncio.timeout(SOON_S):
        await asyncio.gather(*readers)
    assert sorted(got) == list(range(50))


def test_a_channel_without_room_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Channel(0)


# ---- Latest --------------------------------------------------------------------------------


async def test_latest_gives_the_newest_once_and_counts_what_nobody_saw() -> None:
    slot: Latest[int] = Latest()
    assert slot.peek() is None
    for item in (1, 2, 3):
        slot.put(item)
    assert await slot.get() == 3
    assert slot.replaced == 2
    assert slot.peek() == 3
    waiting = asyncio.create_task(slot.get())
    await asyncio.sleep(0.01)
    assert not waiting.done()
    slot.put(4)
    async with asyncio.timeout(SOON_S):
        assert await waiting == 4


async def test_a_closed_slot_releases_its_item_and_its_readers() -> None:
    slot: Latest[int] = Latest()
    waiting = asyncio.create_task(slot.get())
    await asyncio.sleep(0.01)
    slot.close()
    with pytest.raises(ChannelClosed):
        async with asyncio.timeout(SOON_S):
            await waiting
    assert slot.peek() is None


# ---- Outbox --------------------------------------------------------------------------------


async def drain(box: "Outbox[str]") -> list[str]:
    box.close()
    items = []
    while len(box):
        items.append(await box.get())
    return items


async def test_a_newer_partial_takes_the_place_of_an_unsent_older_one() -> None:
    box: Outbox[str] = Outbox(10)
    box.put("a1", key="a")
    box.put("final")
    box.put("a2", key="a")
    assert box.dropped == 1
    assert await drain(box) == ["final", "a2"]


async def test_when_full_partials_go_and_finals_stay() -> None:
    box: Outbox[str] = Outbox(2)
    box.put("partial", key="p")
    box.put("f1")
    box.put("f2")
    box.put("another", key="q")
    assert await drain(box) == ["f1", "f2"]
    assert box.dropped == 2


def test_a_consumer_that_leaves_only_finals_unread_is_too_slow() -> None:
    box: Outbox[str] = Outbox(2)
    box.put("f1")
    box.put("f2")
    with pytest.raises(SlowConsumer):
        box.put("f3")
    assert len(box) == 2


async def test_a_partial_can_be_taken_back() -> None:
    box: Outbox[str] = Outbox(5)
    box.put("partial", key="u1")
    box.discard("u1")
    box.discard("never")
    box.put("final")
    assert await drain(box) == ["final"]
    assert box.dropped == 1


async def test_a_closed_box_gives_what_it_has_and_takes_no_more() -> None:
    box: Outbox[str] = Outbox(5)
    box.put("last")
    box.close()
    box.put("late")
    assert await box.get() == "last"
    with pytest.raises(ChannelClosed):
        await box.get()


async def test_a_reader_is_woken_by_an_item_and_by_the_end() -> None:
    box: Outbox[str] = Outbox(5)
    reader = asyncio.create_task(box.get())
    await asyncio.sleep(0.01)
    box.put("x")
    async with asyncio.timeout(SOON_S):
        assert await reader == "x"
    reader = asyncio.create_task(box.get())
    await asyncio.sleep(0.01)
    box.close()
    with pytest.raises(ChannelClosed):
        async with asyncio.timeout(SOON_S):
            await reader


keys: st.SearchStrategy[Hashable | None] = st.sampled_from([None, None, "a", "b", "c"])


@given(st.lists(keys, max_size=60), st.integers(1, 8))
def test_no_final_is_ever_lost_or_reordered_whatever_comes(
    put: list[Hashable | None], capacity: int
) -> None:
    box: Outbox[tuple[int, Hashable | None]] = Outbox(capacity)
    finals = []
    for number, key in enumerate(put):
        try:
            box.put((number, key), key)
        except SlowConsumer:
            assert key is None
            assert len(box) == capacity
            assert all(item[1] is None for item in box._items.values())
            break
        if key is None:
            finals.append(number)
        assert len(box) <= capacity
    kept = list(box._items.values())
    assert [number for number, key in kept if key is None] == finals
    assert [number for number, _ in kept] == sorted(number for number, _ in kept)
    for key in ("a", "b", "c"):
        assert sum(k == key for _, k in kept) <= 1
