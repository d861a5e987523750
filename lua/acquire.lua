-- Asks for the lease. Asking again with the same session finds the same grant and
-- prolongs it; the reply to the first request may have been lost.
--
-- KEYS   leader, state
-- ARGV   1 session   2 record (JSON)   3 ttl_ms   4 hold_ms
--        5 floor: the highest epoch the bidder has seen, 0 for none
--        6 incumbent: 1 where the bidder still leads under floor, else 0
--        7 server: the run_id of the server that the bidder asks
--        8 publish: PUBLISH or SPUBLISH   9 channel
-- reply  won, now_ms, epoch, left_ms
--        held, now_ms, epoch, session, record, since_ms, ttl_ms, left_ms
--        hold, now_ms, retry_in_ms, why

local session, profile, server, spread, channel = ARGV[1], ARGV[2], ARGV[7], ARGV[8], ARGV[9]
local ttl_ms, hold_ms = number_of(ARGV[3], 1), number_of(ARGV[4], 0)
local floor, incumbent = number_of(ARGV[5], 0), ARGV[6] == '1'
if not ttl_ms or not hold_ms or not floor then
  return redis.error_reply('ERR acquire: ttl_ms, hold_ms and floor must be whole numbers up to 2^53-1')
end

local record, bad = read_record()
if bad then
  return bad
end
local now, leader, state, known = record.now, record.leader, record.state, record.known

-- Whether the record, the bidder's memory and the answering server disagree on who
-- may be leading. Reached only where no other session holds the newest epoch.
local function contradiction()
  if floor > known then
    return 'store_went_back'
  end
  if not state then
    return nil
  end
  if leader and leader.epoch < known then
    return 'store_went_back'
  end
  if not leader and not state.ended and state.session ~= '' and state.expires_ms >= now then
    return 'lease_vanished'
  end
  if state.server ~= server then
    return 'server_changed'
  end
end

-- Raises the record to what the bidder has seen, and holds from now on. The hold is
-- written down so that nodes without any memory obey it too.
local function begin_hold()
  local before = state or {hold_ms = 0, ttl_ms = 0, acquired_ms = now, checkpoint = ''}
  local longest = math.max(before.hold_ms, hold_ms)
  state = {
    epoch = math.max(known, floor),
    session = '',
    record = '',
    ttl_ms = math.max(before.ttl_ms, ttl_ms),
    hold_ms = longest,
    acquired_ms = before.acquired_ms,
    expires_ms = 0,
    server = server,
    hold_until_ms = now + longest,
    ended = false,
    checkpoint = before.checkpoint,
  }
  write_state(state)
  if leader then
    redis.call('DEL', KEYS[1])
  end
end

-- A hold never lasts longer than it was meant to, even where the server's clock was
-- set back.
local function hold_left()
  if not state then
    return 0
  end
  return math.min(math.max(state.hold_until_ms - now, 0), state.hold_ms)
end

-- State before lease: where a write is refused, nothing has been granted.
local function grant(epoch)
  local expires_ms = now + ttl_ms
  write_state({
    epoch = epoch,
    session = session,
    record = profile,
    ttl_ms = ttl_ms,
    hold_ms = hold_ms,
    acquired_ms = now,
    expires_ms = expires_ms,
    server = server,
    hold_until_ms = 0,
    ended = false,
    checkpoint = state and state.checkpoint or '',
  })
  if leader then
    redis.call('DEL', KEYS[1])
  end
  local lease = text_of(epoch) .. ':' .. session
  redis.call('SET', KEYS[1], lease, 'NX', 'PXAT', text_of(expires_ms))
  publish(spread, channel, 'began ' .. text_of(epoch))
end

if leader and leader.session ~= session and leader.epoch == math.max(known, floor) then
  cut_to_ttl(record)
  return with_holder({'held', now}, record, ttl_ms)
end

-- The bidder's own, by a grant whose reply it lost. An epoch that is not above the
-- floor is dead to it.
local own = leader and leader.session == session and state and state.epoch == leader.epoch
if own and state.server == server and leader.epoch > floor then
  extend(state, now, ttl_ms, server)
  return {'won', now, leader.epoch, ttl_ms}
end

-- A claim to be the incumbent counts only while nobody was granted since.
incumbent = incumbent and floor > 0 and known <= floor
if not incumbent then
  local why = contradiction()
  if why then
    begin_hold()
    return {'hold', now, hold_left(), why}
  end
  if hold_left() > 0 then
    return {'hold', now, hold_left(), 'standing'}
  end
end

local epoch = math.max(known + 1, floor + 1, math.min(now, MAX))
if epoch > MAX then
  return redis.error_reply('EXHAUSTED epoch 9007199254740991 is the last; this election needs a new name')
end
grant(epoch)
return {'won', now, epoch, ttl_ms}
