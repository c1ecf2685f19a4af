"""The one Lua script through which every value is written.

KEYS[1] = md:log, KEYS[2] = md:pos, KEYS[3...] = the value keys; ARGV[1] = the writer's log id, ARGV[2] = number of
positions, then partition, next offset pairs, then one value per key. Answers the number of values written, -1 when
md:log is absent (the store was emptied), -2 when it names another log: then nothing was changed. A md:log or md:pos of
a wrong type is not ours: both are removed, which is -1 too.

A value is written when the key is absent, not a value of ours, or of another log, and otherwise only when its offset
is greater and it is not an older output of the same instance (a resend repeats old outputs at new offsets).
Positions move only with the values they stand for, so a position found later is never ahead of the values.
"""

WRITE = """
local kinds = {string = KEYS[1], hash = KEYS[2]}
for kind, key in pairs(kinds) do
  local found = redis.call('TYPE', key).ok
  if found ~= kind and found ~= 'none' then
    redis.call('DEL', KEYS[1], KEYS[2])
    return -1
  end
end
local log = redis.call('GET', KEYS[1])
if not log then return -1 end
if log ~= ARGV[1] then return -2 end
local head = '^{"k_log":"(.-)","k_part":(%d+),"k_off":(%d+),"src_instance":(%d+),'
  .. '"src_epoch":(%d+),"src_seq":(%d+),"src_idx":(%d+),"out":(%d+)'
local pairs_given = tonumber(ARGV[2])
local first_value = 3 + 2 * pairs_given
local written = 0
for i = 3, #KEYS do
  local value = ARGV[first_value + i - 3]
  local old = redis.pcall('GET', KEYS[i])
  local accept = true
  if type(old) == 'string' then
    local o = {string.match(old, head)}
    local n = {string.match(value, head)}
    if o[1] and o[1] == n[1] then
      accept = tonumber(n[3]) > tonumber(o[3])
      if accept and n[4] == o[4] then
        accept = false
        for k = 5, 8 do
          local a, b = tonumber(n[k]), tonumber(o[k])
          if a ~= b then accept = a > b break end
        end
      end
    end
  end
  if accept then
    redis.call('SET', KEYS[i], value)
    written = written + 1
  end
end
for i = 1, pairs_given do
  redis.call('HSET', KEYS[2], ARGV[1 + 2 * i], ARGV[2 + 2 * i])
end
return written
"""
