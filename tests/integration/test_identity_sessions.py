"""Sessions on two instances with one Redis: one successor, reuse detection, ends everywhere."""

import asyncio
import os
import signal

import pytest

from mediaserver.identity import sessions
from mediaserver.stores.embedded import EmbeddedValkey
from mediaserver.stores.redis import RedisStore
from tests.integration.identity_instance import PASSWORD, Instance, Instances

EVERYWHERE_S = sessions.REVOCATION_CACHE_S + 4.0
"""What an instance may know for so long, and a machine that is busy."""


async def refused_soon(instance: Instance, token: str) -> None:
    """Wait until an access token is refused; it must be within the cache's time."""
    async with asyncio.timeout(EVERYWHERE_S):
        while (answer := await instance.get("me", token=token)).status == 200:
            await asyncio.sleep(0.05)
    assert answer.status == 401
    assert answer.body["code"] == "revoked"


async def test_50_refreshes_at_once_on_two_instances_give_one_successor(
    instances: Instances,
) -> None:
    one, two = await instances.start(), await instances.start()
    tokens = await one.user()
    body = {"refresh_token": tokens["refresh_token"]}
    answers = await asyncio.gather(*((one, two)[i % 2].post("refresh", body) for i in range(50)))
    assert {answer.status for answer in answers} == {200}
    successors = {answer.body["refresh_token"] for answer in answers}
    assert len(successors) == 1
    assert successors != {tokens["refresh_token"]}
    following = await two.post("refresh", {"refresh_token": successors.pop()})
    assert following.status == 200


async def test_a_replay_revokes_the_session_on_every_instance(instances: Instances) -> None:
    one, two = await instances.start(), await instances.start()
    first = await one.user()
    second = (await one.post("refresh", {"refresh_token": first["refresh_token"]})).body
    third = (await two.post("refresh", {"refresh_token": second["refresh_token"]})).body
    assert (await one.get("me", token=third["access_token"])).status == 200
    assert (await two.get("me", token=third["access_token"])).status == 200

    replay = await two.post("refresh", {"refresh_token": first["refresh_token"]})
    assert (replay.status, replay.body["code"]) == (401, "invalid_grant")
    for instance in (one, two):
        await refused_soon(instance, third["access_token"])
        later = await instance.post("refresh", {"refresh_token": third["refresh_token"]})
        assert (later.status, later.body["code"]) == (401, "invalid_grant")
    assert (await one.login())["access_token"], "the user may log in again"


async def test_the_predecessor_is_good_for_10_s(instances: Instances, redis: RedisStore) -> None:
    one, two = await instances.start(), await instances.start()
    first = await one.user()
    second = (await one.post("refresh", {"refresh_token": first["refresh_token"]})).body
    again = (await two.post("refresh", {"refresh_token": first["refresh_token"]})).body
    assert again["refresh_token"] == second["refresh_token"]
    # Redis' clock cannot be moved, but the time of the rotation can
    key = f"ms:auth:session:{{{first['refresh_token'].partition('.')[0]}}}"
    rotated = int(await redis.client.hget(key, "rotated") or 0)
    await redis.client.hset(key, "rotated", rotated - 10_001)
    late = await two.post("refresh", {"refresh_token": first["refresh_token"]})
    assert late.status == 401


@pytest.mark.parametrize("token", ["", "x", "ses_nothing.secret", "a.b.c", "ü.ü", "x" * 4096])
async def test_a_made_up_refresh_token_is_refused(instances: Instances, token: str) -> None:
    one = await instances.start()
    answer = await one.post("refresh", {"refresh_token": token})
    assert answer.status in (400, 401)


async def test_logout_ends_this_session_and_no_other(instances: Instances) -> None:
    one, two = await instances.start(), await instances.start()
    first = await one.user()
    second = await two.login()
    assert (await two.get("me", token=first["access_token"])).status == 200
    assert (await one.post("logout", token=first["access_token"])).status == 204
    await refused_soon(two, first["access_token"])
    assert (await one.post("refresh", {"refresh_token": first["refresh_token"]})).status == 401
    assert (await one.get("me", token=second["access_token"])).status == 200

    body = {"refresh_token": second["refresh_token"]}
    assert (await one.post("logout", body)).status == 204, "the refresh token will do as well"
    await refused_soon(two, second["access_token"])


async def test_logout_everywhere_ends_all_sessions_of_the_user_alone(instances: Instances) -> None:
    one, two = await instances.start(), await instances.start()
    sessions_of_anna = [await one.user(), await two.login(), await one.login()]
    other = await two.user("berta")
    answer = await one.post("logout-all", token=sessions_of_anna[0]["access_token"])
    assert answer.status == 204
    for tokens in sessions_of_anna:
        for instance in (one, two):
            await refused_soon(instance, tokens["access_token"])
            body = {"refresh_token": tokens["refresh_token"]}
            assert (await instance.post("refresh", body)).status == 401
    assert (await one.get("me", token=other["access_token"])).status == 200
    assert (await one.get("me", token=(await one.login())["access_token"])).status == 200


async def test_a_new_password_ends_other_sessions_and_gives_a_new_one(
    instances: Instances,
) -> None:
    one, two = await instances.start(), await instances.start()
    first, other = await one.user(), await two.login()
    body = {"current": PASSWORD, "new": "another long password"}
    changed = await one.post("password", body, token=first["access_token"])
    assert changed.status == 200
    await refused_soon(two, other["access_token"])
    await refused_soon(one, first["access_token"])
    assert (await two.get("me", token=changed.body["access_token"])).status == 200
    body = {"refresh_token": changed.body["refresh_token"]}
    assert (await two.post("refresh", body)).status == 200
    assert (await two.post("login", {"name": "anna", "password": PASSWORD})).status == 401


async def test_without_redis_refresh_and_login_fail_closed_and_access_tokens_work(
    instances: Instances, valkey: EmbeddedValkey, redis: RedisStore
) -> None:
    one = await instances.start()
    tokens = await one.user()
    pid = (await redis.client.info("server"))["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        refreshed = await one.post("refresh", {"refresh_token": tokens["refresh_token"]})
        assert (refreshed.status, refreshed.body["code"]) == (503, "redis_down")
        assert refreshed.headers["Retry-After"] == "1"
        login = await one.post("login", {"name": "anna", "password": PASSWORD})
        assert login.status == 503
        assert (await one.get("me", token=tokens["access_token"])).status == 200
        ready = await one.get("/readyz")
        assert (ready.status, ready.body["parts"]["redis"]["ready"]) == (503, False)
        assert ready.body["parts"]["database"]["ready"] is True
    finally:
        os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(30):  # its guardian starts it anew, with its data
        while (await one.get("/readyz")).status != 200:
            await asyncio.sleep(0.05)
    again = await one.post("refresh", {"refresh_token": tokens["refresh_token"]})
    assert again.status == 200
