"""Broadcasts are watched: on one instance and from another, by real peers on real servers."""

import re
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.integration.relay_client import (
    LINKS_IN,
    LINKS_OUT,
    Camera,
    Screen,
    becomes,
    broadcast_of,
    camera,
    ended,
    screen,
    shows,
    tracks,
)
from tests.integration.room_client import RoomMember, party
from tests.integration.room_servers import Servers, run_servers
from tests.integration.room_speech import finals, speaking
from tests.integration.webrtc_client import until
from tests.unit.inference.scripted import random_script
from tests.unit.sessions.scripted_worker import Stage
from tests.valkey import ValkeyProcess

pytestmark = pytest.mark.leaves_behind("aiortc leaves its codecs' threads to the interpreter")
SOON_S = 10.0
"""For the first picture and the tone; about 1 s on a machine with nothing else to do. Of itself
a publisher sends a picture to begin with no more often than every two minutes."""
STILL_S = 1.0
"""Whoever saw and heard nothing for so long sees and hears nothing any more."""


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory, valkey_server: ValkeyProcess
) -> Iterator[Servers]:
    with run_servers(tmp_path_factory.mktemp("relay"), valkey_server, 2) as servers:
        yield servers


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
    await stage.start()
    yield stage
    await stage.aclose()


async def test_viewers_on_both_instances_see_and_hear_the_publisher(servers: Servers) -> None:
    names = ("Ada", "Bob", "Cid", "Dan")  # Ada and Cid on one server, Bob and Dan on the other
    async with party(servers, "across", *names) as (ada, bob, cid, dan), camera(ada):
        async with screen(bob) as far, screen(cid) as near, screen(dan) as farther:
            await shows(bob, ada.id)
            assert (await far.watch())["member_id"] == ada.id
            assert await far.sees_and_hears() < SOON_S
            await shows(cid, ada.id)
            await near.watch(ada.id)
            assert await near.sees_and_hears() < SOON_S
            await farther.watch(ada.id)  # over the same link
            assert await farther.sees_and_hears() < SOON_S
            await becomes(servers[1], LINKS_IN, 1)
            await becomes(servers[0], LINKS_OUT, 1)
            await becomes(servers[0], LINKS_IN, 0)
            await becomes(servers[1], "mediaserver_viewers", 2)
            await becomes(servers[0], "mediaserver_broadcasts", 1)
        for viewer in (bob, dan, cid):
            await viewer.send("watch.stop")
        await becomes(servers[1], "mediaserver_viewers", 0)
        await becomes(servers[1], LINKS_IN, 0)
        await becomes(servers[0], LINKS_OUT, 0)
        assert not bob.told("watch.ended")
        assert broadcast_of(bob, ada.id)


async def test_who_comes_late_or_comes_back_learns_who_broadcasts(servers: Servers) -> None:
    async with party(servers, "late", "Ada", "Bob") as (ada, bob), camera(ada):
        await shows(bob, ada.id)
        async with party(servers[1:], "late", "Eve") as (eve,):
            snapshot = await eve.wait_for("room.snapshot")
            [shown] = [m for m in snapshot["members"] if m["member_id"] == ada.id]
            assert shown["broadcast"] == {"audio": True, "video": True}
            listed = servers.json(1, "/api/v1/rooms/late/members")["members"]
            assert [m["broadcast"] is not None for m in listed if m["member_id"] == ada.id] == [
                True
            ]
        await bob.drop()
        await bob.until(lambda m: len(m.welcomes) == 2)
        async with screen(bob) as shown_again:
            await shown_again.watch()
            await shown_again.sees_and_hears()


async def test_a_whip_publisher_is_watched_from_the_other_instance(servers: Servers) -> None:
    async with party(servers[1:], "whip", "Bob") as (bob,), screen(bob) as shown:
        sending = await Camera.by_whip(bob._session, servers[0], "whip")
        try:
            joined = await bob.wait_for("member.joined", lambda m: m["member"]["kind"] == "whip")
            await shows(bob, joined["member"]["member_id"])
            await shown.watch()
            assert await shown.sees_and_hears() < SOON_S
            async with bob._session.delete(sending.resource) as response:
                assert response.status == 200
            assert await ended(bob) == "left"
        finally:
            await sending.off()


async def test_sound_alone_and_another_codec(servers: Servers) -> None:
    sound, pictures = tracks()
    pictures.stop()
    async with (
        party(servers, "radio", "Ada", "Bob") as (ada, bob),
        camera(ada, sound),
        screen(bob) as shown,
    ):
        await shows(bob, ada.id, {"audio": True, "video": False})
        await shown.watch()
        await shown.hears()
        answer = await shown.ask_with("audio", "PCMU")
        assert answer["problem"]["code"] == "codec_unsupported", answer


async def test_publishing_ends_and_begins_again(servers: Servers) -> None:
    async with party(servers, "again", "Ada", "Bob") as (ada, bob), screen(bob) as shown:
        for number in (1, 2):
            async with camera(ada):
                await shows(bob, ada.id)
                await shown.watch()
                await shown.sees_and_hears()
            assert await ended(bob, number) == "ended"
            await shows(bob, ada.id, None)
            assert await shown.refused(ada.id) == "no_broadcast"


@pytest.mark.parametrize(
    ("what", "reason"), [("mute", "ended"), ("role", "ended"), ("kick", "left"), ("leave", "left")]
)
async def test_who_may_not_publish_or_goes_is_not_watched(
    servers: Servers, what: str, reason: str
) -> None:
    async with (
        party(servers, f"end-{what}", "Bob", "Ada", "Cid") as (bob, ada, cid),
        camera(ada),
        screen(bob) as far,
        screen(cid) as near,
    ):
        for viewer, shown in ((bob, far), (cid, near)):
            await shows(viewer, ada.id)
            await shown.watch()
            await shown.sees_and_hears()
        ada.reconnects = False
        if what == "mute":
            await bob.do("member.mute", member_id=ada.id, publish=True)
        elif what == "role":
            await bob.do("member.role", member_id=ada.id, role="listener")
        elif what == "kick":
            await bob.do("member.kick", member_id=ada.id)
        else:
            await ada.send("leave")
        for viewer in (bob, cid):
            assert await ended(viewer) == reason
            await shows(viewer, ada.id, None)
        await until(lambda: min(far.silent_for_s, near.silent_for_s) > STILL_S)
        assert await far.refused() == "no_broadcast"


async def test_who_may_publish_again_is_watched_again(servers: Servers) -> None:
    async with (
        party(servers, "unmute", "Bob", "Ada") as (bob, ada),
        camera(ada),
        screen(bob) as shown,
    ):
        await shows(bob, ada.id)
        await bob.do("member.mute", member_id=ada.id, publish=True)
        await shows(bob, ada.id, None)
        await bob.do("member.mute", member_id=ada.id, publish=False)
        await bob.until(lambda m: broadcast_of(m, ada.id), 20.0)
        await shown.watch()
        await shown.sees()


async def test_a_new_offer_takes_the_place_of_the_watch_before(servers: Servers) -> None:
    async with (
        party(servers, "zap", "Ada", "Bob", "Cid") as (ada, bob, cid),
        camera(ada),
        camera(cid, *tracks(880.0)),
        screen(bob) as shown,
    ):
        await shows(bob, ada.id)
        await shows(bob, cid.id)
        for member, hz in ((ada, 440.0), (cid, 880.0), (ada, 440.0)):
            await shown.watch(member.id)
            await shown.sees_and_hears(hz)
        assert not bob.told("watch.ended")
        await becomes(servers[1], "mediaserver_viewers", 1)


async def test_one_watches_others_unless_oneself_is_named(servers: Servers) -> None:
    async with party(servers, "mirror", "Ada") as (ada,), camera(ada), screen(ada) as shown:
        await shows(ada, ada.id)
        assert await shown.refused() == "no_broadcast"
        await shown.watch(ada.id)
        await shown.sees_and_hears()


async def test_media_is_bound_to_the_addresses_that_are_set(servers: Servers) -> None:
    async with (
        party(servers, "bound", "Ada", "Bob") as (ada, bob),
        camera(ada),
        screen(bob) as shown,
    ):
        await shows(bob, ada.id)
        answer = await shown.watch()
        addresses = re.findall(r"a=candidate:\S+ \d udp \d+ (\S+) ", answer["sdp"])
        assert set(addresses) == {"127.0.0.1"}


async def test_captions_and_chat_go_on_beside_a_broadcast(
    tmp_path_factory: pytest.TempPathFactory, valkey_server: ValkeyProcess, stage: Stage
) -> None:
    folder, worker = tmp_path_factory.mktemp("relay-captions"), stage.workers[0].url
    script = random_script(7, 3)
    with run_servers(folder, valkey_server, 2, inference_urls=worker) as servers:
        names = ("Ada", "Bob", "Eve")
        async with (
            party(servers, "busy", *names) as (ada, bob, eve),
            camera(ada),
            screen(bob) as shown,
        ):
            await shows(bob, ada.id)
            await shown.watch()
            speaker: RoomMember = eve
            talking = speaking(speaker, stage, script)
            for number in range(10):
                await ada.do("chat.send", text=f"{number}")
            await talking
            await bob.until(lambda m: m.texts == [str(n) for n in range(10)])
            await eve.until(finals, 20.0)
            await bob.until(lambda m: finals(m) == finals(eve), 20.0)
            await shown.sees_and_hears()
            assert isinstance(shown, Screen)
