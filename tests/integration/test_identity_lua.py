"""The Lua scripts and the pure functions decide alike, on a real valkey-server."""

import random
import secrets

import pytest

from mediaserver.identity.gcra import Quota, decide
from mediaserver.identity.limits import SCRIPT, Limits
from mediaserver.identity.rotation import Family, rotate, token_hash
from mediaserver.identity.sessions import _OPEN, _ROTATE, UserSessions
from mediaserver.kernel.clocks import SystemClock
from mediaserver.stores.redis import RedisStore


async def test_gcra_in_redis_is_gcra_here(redis: RedisStore) -> None:
    script = redis.script(SCRIPT)
    chance = random.Random(7)
    for number in range(60):
        quota = Quota("t", chance.randint(1, 50), chance.choice([1, 10, 60]))
        arrival: int | None = None
        for _ in range(chance.randint(1, 70)):
            allowed, told, now = await script(
                [f"bucket-{number}"], [quota.interval_us, quota.burst_us]
            )
            decided = decide(quota, arrival, int(now))
            assert (bool(allowed), int(told)) == (decided.allowed, decided.arrival_us)
            arrival = decided.arrival_us


async def test_a_bucket_goes_by_itself_when_it_is_whole(redis: RedisStore) -> None:
    limits = Limits(redis, SystemClock(), 100)
    decided = await limits.ask_redis(limits.default, "address:127.0.0.1")
    assert decided.remaining == 99
    (key,) = await redis.client.keys("ms:limit:*")
    assert 0 < await redis.client.pttl(key) <= 601


@pytest.mark.parametrize("grace_ms", [10_000, -1])
async def test_rotation_in_redis_is_rotation_here(redis: RedisStore, grace_ms: int) -> None:
    """With the grace always open, and always over: no clock to agree on."""
    begin, turn = redis.script(_OPEN), redis.script(_ROTATE)
    chance = random.Random(grace_ms)
    for number in range(80):
        key = f"ms:auth:session:{{{number}}}"
        tokens = ["t0"]
        await begin([key], ["u", token_hash("t0"), 60_000, 600_000])
        family: Family | None = Family(current=token_hash("t0"), ends_ms=10**15)
        for step in range(chance.randint(1, 12)):
            presented = chance.choice([*tokens[-3:], tokens[-1], "made-up"])
            successor, nonce = f"t{number}-{step + 1}", secrets.token_hex(4)
            told = await turn(
                [key],
                [token_hash(presented), token_hash(successor), nonce, grace_ms, 60_000, 60_000],
            )
            late = grace_ms + 10_002 if grace_ms < 0 else 0
            outcome, family = rotate(
                family, token_hash(presented), token_hash(successor), nonce, late * (step + 1)
            )
            assert told[0].decode() == outcome
            if outcome == "rotated":
                tokens.append(successor)
            if outcome in ("rotated", "same"):
                assert family is not None
                assert told[3].decode() == family.nonce


async def test_a_session_that_is_not_refreshed_goes_by_itself(redis: RedisStore) -> None:
    opened = await UserSessions(redis, SystemClock()).open("u_1")
    left_ms = await redis.client.pttl(f"ms:auth:session:{{{opened.session_id}}}")
    assert 13.9 * 86_400_000 < left_ms <= 14 * 86_400_000


async def test_redis_has_no_token_in_clear(redis: RedisStore) -> None:
    sessions = UserSessions(redis, SystemClock())
    opened = await sessions.open("u_1")
    refreshed = await sessions.refresh(opened.refresh_token, b"s" * 32)
    stored = await redis.client.hgetall(f"ms:auth:session:{{{opened.session_id}}}")
    text = repr(stored)
    for token in (opened.refresh_token, refreshed.refresh_token):
        assert token.partition(".")[2] not in text
