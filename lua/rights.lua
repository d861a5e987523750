-- Which of these commands the user may not run. Runs none of them, so that nothing is
-- written. Needs Redis 7; stands alone, without record.lua.
--
-- KEYS   none
-- ARGV   commands, their words parted by spaces
-- reply  the numbers of those that are refused, from 1 on

local refused = {}
for at, line in ipairs(ARGV) do
  local words = {}
  for word in string.gmatch(line, '%S+') do
    words[#words + 1] = word
  end
  -- A command that this server does not have is not the user's fault.
  local known, may = pcall(redis.acl_check_cmd, unpack(words))
  if known and not may then
    refused[#refused + 1] = at
  end
end
return refused
