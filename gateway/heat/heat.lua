-- The store of heat inside of Redis: the same as Memory (memory.go), which is
-- its specification, and held to be so by a test.
--
-- A rate that decays is kept as one number that does not change: a rate r at a
-- time t with the time constant k has the score ln r + t/k, whatever moment t
-- is. So a sorted set of scores is sorted by the rates of now, and nothing has
-- to be swept: the hottest are its end, the coldest its beginning.
--
-- Times are in microseconds, rates in bytes per second. Binary records are
-- written by wire.go, and read there.

local second, minute = 1000000, 60000000
local day = 24 * 60 * minute / 1000000 -- for EXPIRE

-- KEYS in their order.
local function keys_of(KEYS)
  return { fast = KEYS[1], slow = KEYS[2], decisions = KEYS[3], nodes = KEYS[4], state = KEYS[5] }
end

local function exact(number) return string.format('%.17g', number) end

-- each calls f with the parts of a list that are short enough for one command.
local function each(list, f)
  for first = 1, #list, 500 do
    f({ unpack(list, first, math.min(first + 499, #list)) })
  end
end

local function forget(key, members)
  each(members, function(part)
    redis.call('ZREM', key.fast, unpack(part))
    redis.call('ZREM', key.slow, unpack(part))
  end)
end

-- rates_of returns the rates of some chunks, 0 for one that is not kept.
local function rates_of(set, constant, chunks, now)
  local rates = {}
  each(chunks, function(part)
    for _, score in ipairs(redis.call('ZMSCORE', set, unpack(part))) do
      rates[#rates + 1] = score and math.exp(tonumber(score) - now / second / constant) or 0
    end
  end)
  return rates
end

-- decisions_of returns chunk → value of those that are not void, and how many
-- they are. The void ones are dropped.
local function decisions_of(key, now)
  local all, kept, n = redis.call('HGETALL', key.decisions), {}, 0
  for i = 1, #all, 2 do
    local _, _, expires = struct.unpack('>I8I8I8', all[i + 1])
    if now < expires then
      kept[all[i]], n = all[i + 1], n + 1
    else
      redis.call('HDEL', key.decisions, all[i])
    end
  end
  return kept, n
end

local function epoch_of(value) return value and (struct.unpack('>I8', value)) or 0 end

-- tick reads the clock, and drops what has decayed away: under a byte per
-- second. A clock that was set back would leave rates that never decay.
local function tick(key)
  local t = redis.call('TIME')
  local now = t[1] * second + t[2]
  local last = tonumber(redis.call('HGET', key.state, 'now') or 0)
  if now < last - second then
    redis.call('DEL', key.fast, key.slow)
  elseif now < last then
    now = last
  end
  redis.call('HSET', key.state, 'now', exact(now))
  forget(key, redis.call('ZRANGEBYSCORE', key.slow, '-inf', '(' .. exact(now / second / slow_constant)))
  return now
end

-- add adds to one of the averages what each byte adds to it.
local function add(set, constant, chunks, bytes, now, per_byte)
  local rates = rates_of(set, constant, chunks, now)
  local scores = {}
  for i, chunk in ipairs(chunks) do
    scores[#scores + 1] = exact(math.log(rates[i] + bytes[i] * per_byte) + now / second / constant)
    scores[#scores + 1] = chunk
  end
  each(scores, function(part) redis.call('ZADD', set, unpack(part)) end)
end

local function count(key, deltas, fast, slow, now)
  local chunks, bytes, at = {}, {}, 1
  while at <= #deltas do
    local chunk, n
    chunk, n, at = struct.unpack('>c32I8', deltas, at)
    chunks[#chunks + 1], bytes[#bytes + 1] = chunk, n
  end
  add(key.fast, fast_constant, chunks, bytes, now, fast)
  add(key.slow, slow_constant, chunks, bytes, now, slow)
  local surplus = redis.call('ZCARD', key.slow) - max_tracked
  if surplus > 0 then
    forget(key, redis.call('ZRANGE', key.slow, 0, surplus - 1))
  end
end

-- learn takes over what a node knows and the store had forgotten.
local function learn(key, known, decisions, n, now)
  local at = 1
  while at <= #known do
    local chunk, value
    chunk, value, at = struct.unpack('>c32I4c0', known, at)
    local epoch, _, expires = struct.unpack('>I8I8I8', value)
    local old = decisions[chunk]
    if epoch > epoch_of(old) and now < expires and (old or n < max_decisions) then
      if not old then n = n + 1 end
      decisions[chunk] = value
      redis.call('HSET', key.decisions, chunk, value)
    end
  end
  return n
end

-- switch_of returns on ("1" or "0"), by and at; a newer one is taken over.
local function switch_of(key, on, by, at)
  local s = redis.call('HMGET', key.state, 'on', 'by', 'at')
  if at > tonumber(s[3] or 0) then
    redis.call('HSET', key.state, 'on', on, 'by', by, 'at', exact(at))
    return on, by, at
  end
  return s[1] or '0', s[2] or '', tonumber(s[3] or 0)
end

-- fill returns the bytes that may be moved now.
local function fill(key, per_minute, now)
  local b = redis.call('HMGET', key.state, 'budget', 'budget_at')
  if not b[1] then return per_minute end
  local passed = math.max(now - tonumber(b[2]), 0)
  return math.min(tonumber(b[1]) + passed / minute * per_minute, per_minute)
end

-- decide accepts proposals or refuses them, in their order.
local function decide(key, proposals, decisions, n, budget, per_minute, frozen, now)
  local refused, at = {}, 1
  while at <= #proposals do
    local chunk, seen, life, moves, changes, value
    chunk, seen, life, moves, changes, value, at = struct.unpack('>c32I8I8I8BI4c0', proposals, at)
    local old, why = decisions[chunk], nil
    if epoch_of(old) ~= seen then
      why = 'outdated'
    elseif frozen and changes == 1 then
      why = 'frozen'
    elseif not old and n >= max_decisions or moves > 0 and (per_minute == 0 or budget < math.min(moves, per_minute)) then
      why = 'over-budget'
    end
    if why then
      refused[#refused + 1] = chunk
      refused[#refused + 1] = why
    else
      budget = budget - moves
      local epoch = math.max(seen + 1, math.floor(now / 1000))
      value = struct.pack('>I8I8I8', epoch, now, now + life) .. value
      if not old then n = n + 1 end
      decisions[chunk] = value
      redis.call('HSET', key.decisions, chunk, value)
    end
  end
  return refused, budget
end

-- advance notes a node's window. When one comes that is not known, the nodes
-- that were not heard of for an hour go.
local function advance(key, node, known, epoch, seq, now)
  if not known then
    local all = redis.call('HGETALL', key.nodes)
    for i = 1, #all, 2 do
      local _, _, at = struct.unpack('>I8I8I8', all[i + 1])
      if now - at > 60 * minute then redis.call('HDEL', key.nodes, all[i]) end
    end
  end
  redis.call('HSET', key.nodes, node, struct.pack('>I8I8I8', epoch, seq, now))
end

local function records(chunks, fast, slow, decisions)
  local list = {}
  for i, chunk in ipairs(chunks) do
    local value = decisions[chunk] or ''
    list[i] = struct.pack('>c32ddI4c0', chunk, fast[i], slow[i], #value, value)
  end
  return table.concat(list)
end

-- view returns the chunks that are hot, and those with a decision.
local function view(key, above, decisions, n, now)
  local least = above > 0 and exact(math.log(above) + now / second / fast_constant) or '-inf'
  local chunks, hot = {}, 0
  for _, chunk in ipairs(redis.call('ZREVRANGEBYSCORE', key.fast, '+inf', least, 'LIMIT', 0, max_view + n)) do
    if not decisions[chunk] and hot < max_view then
      hot = hot + 1
      chunks[hot] = chunk
    end
  end
  for chunk in pairs(decisions) do chunks[#chunks + 1] = chunk end
  return records(chunks, rates_of(key.fast, fast_constant, chunks, now), rates_of(key.slow, slow_constant, chunks, now), decisions)
end

local function expire(key)
  redis.call('EXPIRE', key.fast, day / 24)
  redis.call('EXPIRE', key.slow, day / 24)
  redis.call('EXPIRE', key.nodes, day / 24)
  redis.call('EXPIRE', key.decisions, day)
  redis.call('EXPIRE', key.state, 30 * day) -- a frozen cluster stays so over a holiday
end

redis.register_function(library .. '_apply', function(KEYS, ARGV)
  local node, epoch, base, seq = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
  local fast, slow, above, per_minute = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
  local key = keys_of(KEYS)
  local now = tick(key)
  local decisions, n = decisions_of(key, now)
  local on, by, at = switch_of(key, ARGV[9], ARGV[10], tonumber(ARGV[11]))
  n = learn(key, ARGV[14], decisions, n, now)
  local budget = fill(key, per_minute, now)

  local known = redis.call('HGET', key.nodes, node)
  local has_epoch, has_seq = 0, 0
  if known then has_epoch, has_seq = struct.unpack('>I8I8', known) end
  local last = epoch > has_epoch and 0 or has_seq
  local refused = {}
  if epoch >= has_epoch and base == last and seq > base then
    advance(key, node, known, epoch, seq, now)
    has_epoch, has_seq = epoch, seq
    count(key, ARGV[12], fast, slow, now)
    refused, budget = decide(key, ARGV[13], decisions, n, budget, per_minute, on == '1', now)
  end
  redis.call('HSET', key.state, 'budget', exact(budget), 'budget_at', exact(now))
  n = 0
  for _ in pairs(decisions) do n = n + 1 end
  local rates = view(key, above, decisions, n, now)
  expire(key)
  return { now, has_epoch, has_seq, budget, redis.call('ZCARD', key.slow), on, by, at, rates, refused }
end)

redis.register_function(library .. '_top', function(KEYS, ARGV)
  local key = keys_of(KEYS)
  local now = tick(key)
  local chunks = redis.call('ZREVRANGE', key.fast, 0, tonumber(ARGV[1]) - 1)
  return records(chunks, rates_of(key.fast, fast_constant, chunks, now), rates_of(key.slow, slow_constant, chunks, now), decisions_of(key, now))
end)

redis.register_function(library .. '_freeze', function(KEYS, ARGV)
  local key = keys_of(KEYS)
  local last = tonumber(redis.call('HGET', key.state, 'at') or 0)
  local on, by, at = switch_of(key, ARGV[1], ARGV[2], math.max(tick(key), last + 1))
  expire(key)
  return { on, by, at }
end)
