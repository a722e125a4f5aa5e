"""Rate limits: GCRA in Redis, one Lua call with Redis' clock; a local bucket while it is away."""

from collections import OrderedDict

from mediaserver.identity.gcra import Decision, Quota, decide, decision
from mediaserver.kernel.clocks import Clock
from mediaserver.kernel.errors import TooManyRequests, Unavailable
from mediaserver.stores.redis import RedisStore

WINDOW_S = 60
LOGINS = 10
"""A minute, for each address and for each account."""
LOCAL_SIZE = 20_000

# The same arithmetic as `gcra.decide`. Numbers of Lua are doubles: whole up to 2^53 microseconds,
# the year 2255. KEYS[1] the bucket; ARGV interval us, burst us.
SCRIPT = """
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local arrival = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now)
local after = arrival + ARGV[1]
local allowed = 0
if after - now <= tonumber(ARGV[2]) then
  allowed = 1
  arrival = after
  redis.call('SET', KEYS[1], string.format('%.0f', arrival), 'PX',
    string.format('%.0f', math.ceil((arrival - now) / 1000)))
end
return {allowed, string.format('%.0f', arrival), string.format('%.0f', now)}
"""


class Limits:
    """Decides whether one more request is allowed."""

    def __init__(self, redis: RedisStore, clock: Clock, requests_a_minute: int) -> None:
        """`requests_a_minute` 0 allows everything."""
        self._script = redis.script(SCRIPT)
        self._clock = clock
        self._local: OrderedDict[str, int] = OrderedDict()
        self.enabled = requests_a_minute > 0
        self.default = Quota("default", max(1, requests_a_minute), WINDOW_S)
        self.login = Quota("login", LOGINS, WINDOW_S)
        self.account = Quota("account", LOGINS, WINDOW_S)

    async def ask(self, quota: Quota, who: str) -> Decision:
        """Count a request of `who`; while Redis is away, on this instance alone."""
        try:
            return await self.ask_redis(quota, who)
        except Unavailable:
            return self._ask_here(quota, who)

    async def ask_redis(self, quota: Quota, who: str) -> Decision:
        """Count a request of `who`, on all instances together. Raises Unavailable."""
        allowed, arrival, now = await self._script(
            [f"ms:limit:{quota.name}:{{{who}}}"], [quota.interval_us, quota.burst_us]
        )
        return decision(quota, bool(allowed), int(arrival), int(now))

    def _ask_here(self, quota: Quota, who: str) -> Decision:
        key = f"{quota.name}:{who}"
        now_us = int(self._clock.monotonic_s() * 1e6)
        decided = decide(quota, self._local.get(key), now_us)
        self._local[key] = decided.arrival_us
        self._local.move_to_end(key)
        while len(self._local) > LOCAL_SIZE:
            self._local.popitem(last=False)
        return decided


def refusal(decided: Decision) -> TooManyRequests:
    """Return the error for a request that was not allowed."""
    quota = decided.quota
    what = "logins" if quota.name in ("login", "account") else "requests"
    return TooManyRequests(
        f"too many {what}: {quota.requests} in {quota.window_s} s are allowed; "
        f"wait {decided.reset_s} s",
        retry_after_s=float(decided.reset_s),
    )
