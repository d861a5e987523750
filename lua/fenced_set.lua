-- Sets a key of the app's own, where no leader with a higher fencing token has written
-- before: the late write of a leader that was paused bounces. Needs none of the other
-- scripts here, nor Tenure's keys.
--
-- KEYS   1 the key to set
--        2 its fence: the key that remembers the highest token
-- ARGV   1 token
--        2 value; without it the fence is raised and nothing is set, for a new leader
--          that is going to read before it writes
--        3 ttl_ms after which the value ends; without it the value stays
-- reply  OK
-- error  STALE …   a newer leader has been here: stop leading
--        CORRUPT … the fence cannot be read; nothing has changed
--        ERR …     the call is wrong; nothing has changed
--
-- A refusal is an error and no value, so that no client takes it for success.
--
--     redis-cli -u "$REDIS_URL" --eval lua/fenced_set.lua report '{report}:fence' , "$TOKEN" "$VALUE"
--
-- The braces put both keys into one slot of a cluster. Many keys may share a fence
-- ('{orders}:1', '{orders}:2', '{orders}:fence'): it is then raised for all of them.
-- The fence must neither expire nor be evicted (maxmemory-policy noeviction), and lives
-- as long as the value does: on the same server, in the same database, on the same disk.

-- Tokens are doubles here: whole numbers up to 2^53-1 are exact.
local MAX = 9007199254740991

-- Redis gives text, and '10' < '9' is true of text: nothing is compared before it
-- has passed here. nil where it is not a whole number from 1 to 2^53-1.
local function number_of(text)
  if type(text) ~= 'string' or #text > 16 or not string.find(text, '^%d+$') then
    return nil
  end
  local number = tonumber(text)
  if number < 1 or number > MAX then
    return nil
  end
  return number
end

-- Redis takes text; tostring would write 1e+15.
local function text_of(number)
  return string.format('%.0f', number)
end

-- For messages: what somebody sent may be anything.
local function shown(text)
  return '"' .. string.gsub(string.sub(text, 1, 40), '[^ -~]', '?') .. '"'
end

if #KEYS ~= 2 or KEYS[1] == KEYS[2] or #ARGV < 1 or #ARGV > 3 then
  return redis.error_reply('ERR fenced_set takes two different keys (value, fence) and a token, a value, a ttl in ms')
end
local token = number_of(ARGV[1])
if not token then
  return redis.error_reply('ERR fenced_set: the token must be a whole number from 1 to 2^53-1 and is ' .. shown(ARGV[1]))
end
if ARGV[3] and not number_of(ARGV[3]) then
  return redis.error_reply('ERR fenced_set: the ttl must be whole milliseconds from 1 and is ' .. shown(ARGV[3]))
end

local REPAIR = '. SET it to the token of the leader in force to repair'
local kind = redis.call('TYPE', KEYS[2]).ok
if kind ~= 'string' and kind ~= 'none' then
  return redis.error_reply('CORRUPT ' .. shown(KEYS[2]) .. ' should be a string and is a ' .. kind .. REPAIR)
end
local stored = redis.call('GET', KEYS[2])
if stored then
  local highest = number_of(stored)
  if not highest then
    return redis.error_reply('CORRUPT ' .. shown(KEYS[2]) .. ' should hold a token and holds ' .. shown(stored) .. REPAIR)
  end
  if token < highest then
    return redis.error_reply('STALE token ' .. text_of(token) .. ': a leader with token ' .. text_of(highest)
      .. ' has been here; stop leading')
  end
end

-- Also where the token is the same: SET takes away an expiry that somebody put there.
redis.call('SET', KEYS[2], text_of(token))
if ARGV[3] then
  redis.call('SET', KEYS[1], ARGV[2], 'PX', text_of(number_of(ARGV[3])))
elseif ARGV[2] then
  redis.call('SET', KEYS[1], ARGV[2])
end
return redis.status_reply('OK')
