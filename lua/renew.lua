-- Prolongs a lease; never creates one.
--
-- KEYS   leader, state
-- ARGV   1 epoch   2 session   3 ttl_ms   4 server: the run_id of the server asked
-- reply  kept, now_ms, left_ms
--        lost, now_ms                     nobody holds it, or its state was lost
--        lost, now_ms, epoch, session, record, since_ms, ttl_ms, left_ms

local epoch, session, ttl_ms, server = number_of(ARGV[1], 1), ARGV[2], number_of(ARGV[3], 1), ARGV[4]
if not epoch or not ttl_ms then
  return redis.error_reply('ERR renew: epoch and ttl_ms must be whole numbers from 1 to 2^53-1')
end

local record, bad = read_record()
if bad then
  return bad
end
if not held_by(record, epoch, session) then
  return with_holder({'lost', record.now}, record, ttl_ms)
end
-- Without its state the lease cannot be judged by others: the holder gets a new
-- epoch instead, and the record is whole again.
if not record.state or record.state.epoch ~= epoch then
  return {'lost', record.now}
end
extend(record.state, record.now, ttl_ms, server)
return {'kept', record.now, ttl_ms}
