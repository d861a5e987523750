-- Reading and writing the record of one election.
--
-- Every script of this folder is this text followed by its own; to run one by hand:
--     cat record.lua acquire.lua > /tmp/a.lua; redis-cli --eval /tmp/a.lua KEYS , ARGV
-- The rules are those of src/lease/register.rs, where they are explained.
--
-- KEYS[1]  tenure:{E}:leader      string "epoch:session"; expires with the lease
-- KEYS[2]  tenure:{E}:state       hash, never expires: the newest tenure
-- KEYS[3]  tenure:{E}:checkpoint  hash {revision, bytes}; only the checkpoint scripts
--
-- Everything is read and checked before anything is written: where a record cannot
-- be read, the reply is an error that begins with CORRUPT, and nothing has changed.

-- Epochs and times are doubles here: whole numbers up to 2^53-1 are exact.
local MAX = 9007199254740991

-- Redis takes text; tostring would write 1e+15.
local function text_of(number)
  return string.format('%.0f', number)
end

-- Redis gives text, and '10' < '9' is true of text: nothing is compared before it
-- has passed here. nil where it is not a whole number from `least` to 2^53-1.
local function number_of(text, least)
  if type(text) ~= 'string' or #text > 16 or not string.find(text, '^%d+$') then
    return nil
  end
  local number = tonumber(text)
  if number < least or number > MAX then
    return nil
  end
  return number
end

local function is_session(text)
  return #text == 32 and not string.find(text, '[^0-9a-f]')
end

-- "epoch.seq" as two numbers.
local function revision_of(text)
  local epoch, seq = string.match(text, '^(%d+)%.(%d+)$')
  epoch, seq = number_of(epoch, 1), number_of(seq, 1)
  return epoch and seq and {epoch = epoch, seq = seq}
end

local function now_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local REPAIR = {
  'DEL it to repair: a lease in force ends, and the election may pause for about one TTL',
  'DEL it to repair: the store forgets its newest epoch, and a leader in force is given a new one',
  'DEL it to repair: the checkpoint is lost',
}

local function corrupt(which, what, value)
  local message = 'CORRUPT ' .. KEYS[which] .. ' ' .. what
  if value then
    local shown = string.gsub(string.sub(value, 1, 80), '[^ -~]', '?')
    message = message .. ': "' .. shown .. '"'
  end
  return redis.error_reply(message .. '. ' .. REPAIR[which])
end

-- The value of a key, or an error where it is of another type.
local function read_key(which, command, ...)
  local value = redis.pcall(command, KEYS[which], ...)
  if type(value) == 'table' and value.err then
    if string.find(value.err, 'WRONGTYPE', 1, true) then
      local found = redis.call('TYPE', KEYS[which]).ok
      return nil, corrupt(which, 'is of another type than Tenure writes', found)
    end
    return nil, value
  end
  return value
end

-- The lease in force: {epoch, session, left}, or nil.
local function read_leader()
  local value, bad = read_key(1, 'GET')
  if bad or not value then
    return nil, bad
  end
  local epoch, session = string.match(value, '^(%d+):(.*)$')
  epoch = number_of(epoch, 1)
  if not epoch or not is_session(session) then
    return nil, corrupt(1, 'should hold epoch:session and holds', value)
  end
  local left = redis.call('PTTL', KEYS[1])
  if left == -2 then
    return nil
  end
  if left < 0 then
    return nil, corrupt(1, 'has no expiry, so that the lease would never end', value)
  end
  return {epoch = epoch, session = session, left = left}
end

-- The newest tenure, or nil.
local function read_state()
  local flat, bad = read_key(2, 'HGETALL')
  if bad or #flat == 0 then
    return nil, bad
  end
  local state = {}
  for at = 1, #flat, 2 do
    state[flat[at]] = flat[at + 1]
  end
  for _, field in ipairs({'session', 'record', 'server', 'ended', 'checkpoint'}) do
    if not state[field] then
      return nil, corrupt(2, 'has no field ' .. field)
    end
  end
  local numbers = {epoch = 1, ttl_ms = 0, hold_ms = 0, acquired_ms = 0, expires_ms = 0, hold_until_ms = 0}
  for field, least in pairs(numbers) do
    local number = number_of(state[field], least)
    if not number then
      return nil, corrupt(2, 'has no whole number from ' .. least .. ' to 2^53-1 as ' .. field, state[field] or '')
    end
    state[field] = number
  end
  if state.session ~= '' and not is_session(state.session) then
    return nil, corrupt(2, 'has no session of 32 hex digits', state.session)
  end
  if state.ended ~= '0' and state.ended ~= '1' then
    return nil, corrupt(2, 'should have 0 or 1 as ended and has', state.ended)
  end
  state.ended = state.ended == '1'
  -- Records of older versions have none.
  state.revision_base = number_of(state.revision_base or '0', 0)
  if not state.revision_base then
    return nil, corrupt(2, 'has no whole number from 0 to 2^53-1 as revision_base')
  end
  if state.checkpoint ~= '' and not revision_of(state.checkpoint) then
    return nil, corrupt(2, 'should have epoch.seq as checkpoint and has', state.checkpoint)
  end
  return state
end

-- The whole record at one moment; `known` is the newest epoch in it, 0 for none.
local function read_record()
  local now = now_ms()
  local leader, bad = read_leader()
  if bad then
    return nil, bad
  end
  local state
  state, bad = read_state()
  if bad then
    return nil, bad
  end
  local known = math.max(leader and leader.epoch or 0, state and state.epoch or 0)
  return {now = now, leader = leader, state = state, known = known}
end

local function write_state(state)
  redis.call('HSET', KEYS[2],
    'epoch', text_of(state.epoch),
    'session', state.session,
    'record', state.record,
    'ttl_ms', text_of(state.ttl_ms),
    'hold_ms', text_of(state.hold_ms),
    'acquired_ms', text_of(state.acquired_ms),
    'expires_ms', text_of(state.expires_ms),
    'server', state.server,
    'hold_until_ms', text_of(state.hold_until_ms),
    'ended', state.ended and '1' or '0',
    'checkpoint', state.checkpoint,
    'revision_base', text_of(state.revision_base or 0))
end

-- What the revisions of the state's epoch begin above at a server. Where it is another
-- than the one that vouches for the lease, it may lack the newest of them: they were
-- acknowledged, and are not given to other values. No server gives 2^20 of them before
-- the next renewal. The mark keeps two servers apart that took the place of the same
-- third one, one after the other, before a renewal told of either.
local function base_at(state, server)
  if state.server == server then
    return state.revision_base
  end
  local mark = 0
  for at = 1, #server do
    mark = (mark * 31 + string.byte(server, at)) % 4096
  end
  local told = revision_of(state.checkpoint)
  local newest = told and told.epoch == state.epoch and told.seq or 0
  return math.min(math.max(newest, state.revision_base) + 1048576 * (1 + mark), MAX)
end

-- Prolongs the lease in force. Another server that still has the key becomes the
-- one that vouches for it.
local function extend(state, now, ttl_ms, server)
  local expires_ms = text_of(now + ttl_ms)
  redis.call('PEXPIREAT', KEYS[1], expires_ms)
  if state.server == server then
    redis.call('HSET', KEYS[2], 'expires_ms', expires_ms)
  else
    redis.call('HSET', KEYS[2], 'expires_ms', expires_ms, 'server', server,
      'revision_base', text_of(base_at(state, server)))
  end
end

-- The key of a server whose clock was set back would outlive the lease by as much, and its
-- holder may be gone. Nobody counts on it for longer than a TTL from now.
local function cut_to_ttl(record)
  local leader, state = record.leader, record.state
  if state and state.epoch == leader.epoch and leader.left > state.ttl_ms then
    local expires_ms = text_of(record.now + state.ttl_ms)
    redis.call('HSET', KEYS[2], 'expires_ms', expires_ms)
    redis.call('PEXPIREAT', KEYS[1], expires_ms)
  end
end

-- Whether the lease in force is this epoch of this session.
local function held_by(record, epoch, session)
  local leader = record.leader
  return leader and leader.epoch == epoch and leader.session == session
end

-- Appends the holder of the lease in force: epoch, session, record, since_ms,
-- ttl_ms, left_ms. `ttl_ms` stands in where its state was lost. A key that lives
-- longer than its lease (the server's clock was set back) is told as the lease.
local function with_holder(reply, record, ttl_ms)
  local leader, state = record.leader, record.state
  if not leader then
    return reply
  end
  local since_ms, profile = 0, ''
  if state and state.epoch == leader.epoch then
    since_ms, profile, ttl_ms = state.acquired_ms, state.record, state.ttl_ms
  end
  local left_ms = math.min(leader.left, ttl_ms)
  for _, value in ipairs({leader.epoch, leader.session, profile, since_ms, ttl_ms, left_ms}) do
    reply[#reply + 1] = value
  end
  return reply
end

-- Wakes the waiting; `command` is PUBLISH, or SPUBLISH in a cluster, where a message
-- then stays with the nodes of its slot. A user without the right to publish delays
-- them, and changes nothing: they try again when the lease runs out.
local function publish(command, channel, message)
  redis.pcall(command, channel, message)
end
