-- SPDX-License-Identifier: MIT
-- Tables of options: a context, or nil and a "config" error, or an error that is raised and names the option.

package.path = "./lua/?.lua;./lua/?/init.lua;./?.lua;" .. package.path
local tls = require "cotls"
local peers = require "fuzz.peers"
local tools = require "fuzz.tools"

-- The fields of a class in the types file.
local function names(class)
  local list, current = {}, nil
  for line in io.lines "lua/cotls/types.lua" do
    current = line:match("^%-%-%-@class ([%w_.]+)") or current
    local name = line:match("^%-%-%-@field ([%w_]+)")
    if name and current == class then list[#list + 1] = name end
  end
  assert(#list > 10, "no fields of " .. class)
  list[#list + 1] = "no_such_option"
  return list
end

-- Files and what is written to: the fuzzer writes nothing.
local LEFT_OUT = { keylog = true, owns = true }

local contexts, connections = names "cotls.ContextOptions", names "cotls.ConnectionOptions"
local session = assert(tls.context { insecure = true })
local values = {
  true, false, 0, 1, -1, 2 ^ 53, 0 / 0, 1 / 0, 1.5, "", "x", "1.2", "1.3", "require", "leaf", "a.example", "127.0.0.1",
  "ALL", "DEFAULT@SECLEVEL=0", "P-256:X25519", ("k"):rep(80), ("n"):rep(70000), "a\0b", "never", "request",
  function() return true end, {}, { "h2" }, { 1, 2 }, { a = "b" }, { ["a.example"] = session }, { [{}] = {} }, session,
  peers.leaf.certificate, peers.leaf.key, { data = peers.leaf.certificate }, { file = "/dev/null" }, { ("k"):rep(80) },
  { { 3, 1, 1, ("d"):rep(32) } }, io.stdout, coroutine.create(print), { wait = function() end },
  { { certificate = peers.leaf.certificate, key = peers.leaf.key } },
}

local function wish(list, data, from)
  local given, named = {}, {}
  for at = from, math.min(#data - 1, from + 14), 2 do
    local name = peers.choose(list, data:byte(at))
    if not LEFT_OUT[name] then given[name], named[name] = peers.choose(values, data:byte(at + 1)), true end
  end
  return given, named
end

-- What is raised names one of the options that were given.
local function check_raised(err, named)
  if type(err) ~= "string" then error("raised: " .. tostring(err)) end
  for name in pairs(named) do
    if err:find(name, 1, true) then return end
  end
  error("raised without an option's name: " .. err)
end

local function try(named, fn, ...)
  local ok, value, err = pcall(fn, ...)
  if not ok then return check_raised(value, named) end
  peers.judge(value, err)
  if value == nil and err.code ~= "config" then error("refused as " .. err.code) end
  return value
end

return function(data)
  local given, named = wish(contexts, data, 2)
  if data:byte() and data:byte() % 2 == 1 then
    given.role, given.certificate, given.key = "server", peers.leaf.certificate, peers.leaf.key
  end
  if given.insecure == nil then given.ca = given.ca or peers.ca.certificate end -- the system's would take long
  named.ca, named.role, named.certificate, named.key = true, true, true, true
  local ctx = try(named, tls.context, given)
  if not ctx then return end
  given, named = wish(connections, data, 18)
  given.server_name = given.server_name or "localhost"
  named.server_name, named.transport = true, true
  local a, b = tools.socketpair()
  local conn = try(named, ctx.wrap, ctx, a, given)
  if conn then conn:close() else tools.close(a) end
  tools.close(b)
end
