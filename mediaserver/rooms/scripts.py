"""The Lua scripts of rooms. All keys of a room carry its hash tag, so that Cluster works.

Keys, in this order: state (hash: log_id, version, seq, state), log (stream, ids ``SEQ-0``), chat
(hash: id → message), chats (sorted set: id by seq); then those of `once`.
"""

COMMIT = """
-- channel, log_id, expected version or "", new state or "", ttl ms or "", log length, chat length,
-- once ttl ms, then for each operation: index of its once key or 0, chat id or "", before, after,
-- number of events, events
local now = redis.call('TIME')
local at = now[1] * 1000 + math.floor(now[2] / 1000)
local head = redis.call('HMGET', KEYS[1], 'log_id', 'version', 'seq')
if not head[1] then return {'none'} end
if head[1] ~= ARGV[2] then return {'moved'} end
local version, seq = tonumber(head[2]), tonumber(head[3])
if ARGV[3] ~= '' and tonumber(ARGV[3]) ~= version then
  return {'stale', version, redis.call('HGET', KEYS[1], 'state')}
end
local i = 9
local skip, known = {}, {}
while i <= #ARGV do
  local once, id, before = tonumber(ARGV[i]), ARGV[i + 1], ARGV[i + 2]
  if once > 0 then skip[i] = redis.call('GET', KEYS[once]) end
  if not skip[i] and before ~= '' then
    local kept = known[id] or redis.call('HGET', KEYS[3], id) or ''
    if kept ~= before then return {'chat', id, kept} end
  end
  if id ~= '' then known[id] = ARGV[i + 3] end
  i = i + 5 + tonumber(ARGV[i + 4])
end
if ARGV[4] ~= '' then version = version + 1 end
local done = {}
i = 9
while i <= #ARGV do
  local once, id, before, after = tonumber(ARGV[i]), ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local count = tonumber(ARGV[i + 4])
  if once > 0 and not skip[i] then skip[i] = redis.call('GET', KEYS[once]) end
  if skip[i] then
    table.insert(done, -tonumber(skip[i]))
  else
    for j = i + 5, i + 4 + count do
      seq = seq + 1
      redis.call('XADD', KEYS[2], 'MAXLEN', ARGV[6], seq .. '-0',
        't', at, 'v', version, 'e', ARGV[j])
      redis.call('PUBLISH', ARGV[1], table.concat({'E', seq, at, version, ARGV[j]}, ' '))
    end
    if id ~= '' then
      if after == '' then
        redis.call('HDEL', KEYS[3], id)
        redis.call('ZREM', KEYS[4], id)
      else
        redis.call('HSET', KEYS[3], id, after)
        if before == '' then
          redis.call('ZADD', KEYS[4], seq, id)
          local over = redis.call('ZCARD', KEYS[4]) - tonumber(ARGV[7])
          if over > 0 then
            local old = redis.call('ZPOPMIN', KEYS[4], over)
            for k = 1, #old, 2 do redis.call('HDEL', KEYS[3], old[k]) end
          end
        end
      end
    end
    if once > 0 then redis.call('SET', KEYS[once], seq, 'PX', ARGV[8]) end
    table.insert(done, seq)
  end
  i = i + 5 + count
end
redis.call('HSET', KEYS[1], 'seq', seq)
if ARGV[4] ~= '' then redis.call('HSET', KEYS[1], 'version', version, 'state', ARGV[4]) end
if ARGV[5] ~= '' then
  for k = 1, 4 do
    if ARGV[5] == '-1' then redis.call('PERSIST', KEYS[k])
    else redis.call('PEXPIRE', KEYS[k], ARGV[5]) end
  end
end
return {'ok', version, seq, done}
"""

CREATE = """
-- log_id, state, ttl ms or -1: makes the room unless it is there
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('DEL', KEYS[2], KEYS[3], KEYS[4])
redis.call('HSET', KEYS[1], 'log_id', ARGV[1], 'version', 1, 'seq', 0, 'state', ARGV[2])
if ARGV[3] ~= '-1' then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
return 1
"""

LOAD = """
-- the last event known, or -1 for all that is kept; whether chat is wanted
local head = redis.call('HMGET', KEYS[1], 'log_id', 'version', 'seq', 'state')
if not head[1] then return false end
local first = tonumber(ARGV[1]) + 1
if first < 1 then first = 1 end
local log = redis.call('XRANGE', KEYS[2], first .. '-0', '+')
local chat = {}
if ARGV[2] == '1' then
  local ids = redis.call('ZRANGE', KEYS[4], 0, -1, 'WITHSCORES')
  for k = 1, #ids, 2 do
    local message = redis.call('HGET', KEYS[3], ids[k])
    if message then
      table.insert(chat, ids[k + 1])
      table.insert(chat, message)
    end
  end
end
return {head[1], head[2], head[3], head[4], log, chat}
"""

RELOG = """
-- old log_id, new log_id: the end of the log was lost, so that its numbers mean something else now
if redis.call('HGET', KEYS[1], 'log_id') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'log_id', ARGV[2])
redis.call('DEL', KEYS[2])
return 1
"""

TIME = "return redis.call('TIME')"
