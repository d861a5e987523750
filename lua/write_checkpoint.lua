-- Writes the checkpoint where epoch, session and revision are the ones in force, so
-- that a leader of old, or a delayed older write, never lands on a newer value.
--
-- KEYS   leader, state, checkpoint
-- ARGV   1 epoch   2 session   3 expected: the revision it replaces; empty for none
--        4 bytes   5 server: the run_id of the server asked
-- reply  written, now_ms, revision
--        stale, now_ms, known, revision   known 0 and revision empty for none
--        mismatch, now_ms, revision

local epoch, session, expected, bytes = number_of(ARGV[1], 1), ARGV[2], ARGV[3], ARGV[4]
local server = ARGV[5]
if not epoch then
  return redis.error_reply('ERR write_checkpoint: epoch must be a whole number from 1 to 2^53-1')
end

local record, bad = read_record()
if bad then
  return bad
end
local now, state, known = record.now, record.state, record.known
local stored
stored, bad = read_key(3, 'HGET', 'revision')
if bad then
  return bad
end
stored = stored or ''
local newest = revision_of(stored)
if stored ~= '' and not newest then
  return corrupt(3, 'should have epoch.seq as revision and has', stored)
end

local holds = state and state.session == session and not state.ended and state.epoch == epoch
if not holds or known ~= epoch then
  return {'stale', now, known, stored}
end
if stored ~= expected then
  return {'mismatch', now, stored}
end

-- A revision is never given twice: a value that was lost counts too.
local told = revision_of(state.checkpoint)
if told and (not newest or told.epoch > newest.epoch
    or (told.epoch == newest.epoch and told.seq > newest.seq)) then
  newest = told
end
local seq = base_at(state, server) + 1
if newest and newest.epoch == epoch then
  seq = math.max(seq, newest.seq + 1)
end
if seq > MAX then
  return redis.error_reply('EXHAUSTED this epoch has written its last revision; step down once')
end
local revision = text_of(epoch) .. '.' .. text_of(seq)
redis.call('HSET', KEYS[3], 'revision', revision, 'bytes', bytes)
redis.call('HSET', KEYS[2], 'checkpoint', revision)
return {'written', now, revision}
