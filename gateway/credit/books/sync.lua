-- What one gateway says, and what the others have: see Share.Sync.
--
-- KEYS  1 generation, 2 gateways, then the accounts of the sums, then those
--       that are asked for. All share a hash tag.
-- ARGV  1 gateway, 2 seq (20 digits), 3 whole (0 or 1), 4 the generation that
--       the gateway knows, 5 the one that begins if there is none, 6 the
--       number of sums, then each sum: "balance leased".
--
-- The script hands numbers on as text, and compares texts of equal length: in
-- Lua they would be floats.
local function sync(keys, args)
  local generation = redis.call('GET', keys[1])
  if not generation then
    generation = args[5]
    redis.call('SET', keys[1], generation)
  end
  local gateway, seq, sums = args[1], args[2], tonumber(args[6])
  local said = redis.call('HGET', keys[2], gateway)
  local last = said and string.sub(said, 1, 20) or '00000000000000000000'
  if seq > last then
    local whole = args[3] == '1' and args[4] == generation and '1' or '0'
    redis.call('HSET', keys[2], gateway, seq .. whole)
    for i = 1, sums do
      if args[6 + i] == '0 0' then
        redis.call('HDEL', keys[2 + i], gateway)
      else
        redis.call('HSET', keys[2 + i], gateway, args[6 + i])
      end
    end
  end
  local reply = {generation, last, redis.call('HGETALL', keys[2])}
  for i = 3 + sums, #keys do
    reply[#reply + 1] = redis.call('HGETALL', keys[i])
  end
  return reply
end
