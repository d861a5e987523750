-- Reads the checkpoint.
--
-- KEYS   leader, state, checkpoint
-- ARGV   none
-- reply  present, now_ms, revision, bytes
--        lost, now_ms, revision           written once, and gone since
--        absent, now_ms

local record, bad = read_record()
if bad then
  return bad
end
local stored
stored, bad = read_key(3, 'HMGET', 'revision', 'bytes')
if bad then
  return bad
end
local revision, bytes = stored[1], stored[2]
if revision or bytes then
  if not revision or not revision_of(revision) then
    return corrupt(3, 'should have epoch.seq as revision and has', revision or '')
  end
  if not bytes then
    return corrupt(3, 'has no field bytes')
  end
  return {'present', record.now, revision, bytes}
end
if record.state and record.state.checkpoint ~= '' then
  return {'lost', record.now, record.state.checkpoint}
end
return {'absent', record.now}
