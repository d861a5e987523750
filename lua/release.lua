-- Gives a lease back, notes that its epoch ended, and wakes the waiting. Releasing
-- twice is safe.
--
-- KEYS   leader, state
-- ARGV   1 epoch   2 session   3 ttl_ms   4 hold_ms   5 server
--        6 publish: PUBLISH or SPUBLISH   7 channel
--        8 prefer: the node that the others let go first; empty for none
-- reply  released, now_ms
--        not_held, now_ms
--
-- The message is "ended EPOCH" or "ended EPOCH NODE". A node id may hold spaces but
-- is never empty, so everything after the second space is the node.

local epoch, session, server, spread = number_of(ARGV[1], 1), ARGV[2], ARGV[5], ARGV[6]
local channel, prefer = ARGV[7], ARGV[8]
local ttl_ms, hold_ms = number_of(ARGV[3], 1), number_of(ARGV[4], 0)
if not epoch or not ttl_ms or not hold_ms then
  return redis.error_reply('ERR release: epoch, ttl_ms and hold_ms must be whole numbers up to 2^53-1')
end

local record, bad = read_record()
if bad then
  return bad
end
local now, state = record.now, record.state

if not held_by(record, epoch, session) then
  -- The reply to the first release may have been lost.
  local before = state and state.ended and state.epoch == epoch and state.session == session
  return {before and 'released' or 'not_held', now}
end

redis.call('DEL', KEYS[1])
if not state or state.epoch < epoch then
  -- The state of this lease was lost; its holder tells it anew.
  write_state({
    epoch = epoch,
    session = session,
    record = '',
    ttl_ms = ttl_ms,
    hold_ms = hold_ms,
    acquired_ms = now,
    expires_ms = now,
    server = server,
    hold_until_ms = 0,
    ended = true,
    checkpoint = state and state.checkpoint or '',
  })
elseif state.epoch == epoch then
  redis.call('HSET', KEYS[2], 'ended', '1')
end
local message = 'ended ' .. text_of(epoch)
if prefer ~= '' then
  message = message .. ' ' .. prefer
end
publish(spread, channel, message)
return {'released', now}
