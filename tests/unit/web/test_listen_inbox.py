"""The inbox of /v1/listen: in order, and bounded in bytes."""

import asyncio

import pytest

from mediaserver.web.listen_inbox import Inbox


async def test_items_come_out_in_order() -> None:
    inbox: Inbox[int] = Inbox(1000)
    for i in range(5):
        await inbox.put(i, 10)
    assert [await inbox.get() for _ in range(5)] == [0, 1, 2, 3, 4]


async def test_who_writes_too_much_waits_for_the_reader() -> None:
    inbox: Inbox[str] = Inbox(100)
    await inbox.put("first", 150)
    second = asyncio.ensure_future(inbox.put("second", 1))
    await asyncio.sleep(0.01)
    assert not second.done()
    assert await inbox.get() == "first"
    await asyncio.wait_for(second, 15)
    assert await inbox.get() == "second"


async def test_an_item_without_a_size_never_waits() -> None:
    inbox: Inbox[str] = Inbox(100)
    await inbox.put("large", 150)
    await asyncio.wait_for(inbox.put("the end"), 15)


async def test_close_frees_who_waits_and_keeps_what_is_inside() -> None:
    inbox: Inbox[str] = Inbox(100)
    await inbox.put("kept", 150)
    waiting = asyncio.ensure_future(inbox.put("dropped", 1))
    await asyncio.sleep(0.01)
    inbox.close()
    await asyncio.wait_for(waiting, 15)
    await inbox.put("too late")
    assert await inbox.get() == "kept"
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(inbox.get(), 0.05)
