-- Looks at the record, changing nothing.
--
-- KEYS   leader, state
-- ARGV   none
-- reply  observed, now_ms, known          the newest epoch, 0 for none; nobody holds
--        observed, now_ms, known, epoch, session, record, since_ms, ttl_ms, left_ms

local record, bad = read_record()
if bad then
  return bad
end
-- An unknown TTL does not shorten what is left.
local left_ms = record.leader and record.leader.left or 0
return with_holder({'observed', record.now, record.known}, record, left_ms)
