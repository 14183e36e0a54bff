-- Sessions, tickets and early data between processes: servers that share keys, clients that hand sessions on.

local compat = require "cotls.compat"
local tls = require "cotls"
local bytes = require "spec.bytes"
local helper = require "spec.helper"

-- A server that tells what each connection was. Its options come as Lua text, new ticket keys by the connections.
local SERVER = helper.temp_file [[
local bytes, tls = require "spec.bytes", require "cotls"
local options = (loadstring or load)("return " .. arg[1])()
options.role = "server"
local ctx = assert(tls.context(options))
require "spec.resuming_server" (ctx, function(conn)
  local list = {}
  for hex in conn:read():gmatch("%x+") do list[#list + 1] = bytes.of_hex(hex) end
  if list[1] then ctx:set_ticket_keys(list) end
end)
]]

-- A client that visits with the session in its input, if any, and prints the one it has then.
local CLIENT = helper.temp_file [[
local bytes, tls = require "spec.bytes", require "cotls"
local exported = bytes.of_hex(io.read "*a")
local conn = assert(tls.connect("127.0.0.1", tonumber(arg[1]), { ca = arg[2], server_name = "localhost",
  max_version = arg[3], session = exported ~= "" and exported or nil }))
assert(conn:write("\n"))
io.write(conn:read(), "\n")
io.write(bytes.hex(conn:session():export()))
]]

local CA = helper.temp_file(helper.ca.certificate)

local function literal(value)
  return type(value) == "string" and ("%q"):format(value) or tostring(value)
end

local function start(options)
  options.certificate, options.key = helper.server_leaf.certificate, helper.server_leaf.key
  local parts = {}
  for name, value in pairs(options) do
    local text
    if type(value) == "table" then
      local list = {}
      for i, one in ipairs(value) do list[i] = literal(one) end
      text = "{" .. table.concat(list, ",") .. "}"
    else
      text = literal(value)
    end
    parts[#parts + 1] = name .. " = " .. text
  end
  local child = helper.start({ helper.lua, SERVER, "{" .. table.concat(parts, ", ") .. "}" })
  return child, tonumber(child:wait_for("port (%d+)\n", 20))
end

-- Runs fn with the ports of so many servers of the same options.
local function with_servers(count, options, fn)
  local children, ports = {}, {}
  local ok, err = xpcall(function()
    for i = 1, count do children[i], ports[i] = start(options) end
    helper.in_loop(function() fn(compat.unpack(ports)) end, 30)
  end, debug.traceback)
  for _, child in ipairs(children) do child:stop() end
  if not ok then error(err, 0) end
end

-- @return resumed, status, early data; the session
local function visit(port, context, options, keys)
  local all = { context = context, server_name = "localhost" }
  for name, value in pairs(options or {}) do all[name] = value end
  local conn = assert(tls.connect("127.0.0.1", port, all))
  assert(conn:write(keys or "", "\n"))
  local resumed, status, early = assert(conn:read()):match("^(%w+) (%S+) (.*)$")
  assert.equal(status, conn:early_data_status())
  assert.equal(resumed, tostring(conn:resumed()))
  conn:close()
  return { resumed == "true", status, early }, conn:session()
end

for _, version in ipairs { "1.2", "1.3" } do
  describe("two server processes on " .. version, function()
    local context = helper.client_context { min_version = version, max_version = version }

    it("that share ticket keys resume each other's sessions, while keys are rotated", function()
      local old, new = helper.noise(80, 1), helper.noise(80, 2)
      with_servers(2, { ticket_keys = { old } }, function(first, second)
        local _, session = visit(first, context)
        assert.is_true(visit(second, context, { session = session })[1])
        -- the new key is let in everywhere, then used, then the old one dropped
        visit(first, context, nil, bytes.hex(new) .. " " .. bytes.hex(old))
        visit(second, context, nil, bytes.hex(new) .. " " .. bytes.hex(old))
        local got, renewed = visit(first, context, { session = session })
        assert.is_true(got[1])
        assert.is_true(visit(second, context, { session = renewed })[1])
        assert.is_true(visit(second, context, { session = session })[1])
        visit(first, context, nil, bytes.hex(new))
        assert.is_false(visit(first, context, { session = session })[1])
        assert.is_true(visit(first, context, { session = renewed })[1])
        assert.is_true(visit(second, context, { session = session })[1])
      end)
    end)

    it("without keys of theirs do not", function()
      with_servers(2, {}, function(first, second)
        local _, session = visit(first, context)
        assert.is_false(visit(second, context, { session = session })[1])
        assert.is_true(visit(first, context, { session = session })[1])
      end)
    end)
  end)

  describe("two client processes on " .. version, function()
    it("hand a session on", function()
      with_servers(1, {}, function(port)
        local function run(exported)
          local status, out, err = helper.run({ helper.lua, CLIENT, tostring(port), CA, version }, exported)
          assert.equal(0, status, err)
          return out:match("^(%w+) [^\n]*\n(%x+)$")
        end
        local was, session = run("")
        assert.equal("false", was)
        assert.equal("true", (run(session)))
      end)
    end)
  end)
end

describe("a replayed ticket with early data", function()
  local context = helper.client_context { min_version = "1.3" }
  local keys = { helper.noise(80) }

  it("is never accepted twice, at the same process nor at another that shares keys", function()
    with_servers(2, { ticket_keys = keys, max_early_data = 100 }, function(first, second)
      local _, session = visit(first, context)
      local early = { session = session:export(), early_data = "pay 5" }
      assert.same({ false, "rejected", "" }, visit(second, context, early))
      assert.same({ true, "accepted", "pay 5" }, visit(first, context, early))
      for _ = 1, 2 do
        assert.same({ false, "rejected", "" }, visit(first, context, early))
        assert.same({ false, "rejected", "" }, visit(second, context, early))
      end
    end)
  end)

  it("is accepted wherever it comes without anti_replay", function()
    with_servers(2, { ticket_keys = keys, max_early_data = 100, anti_replay = false }, function(first, second)
      local _, session = visit(first, context)
      local early = { session = session:export(), early_data = "read it" }
      for _ = 1, 2 do
        assert.same({ true, "accepted", "read it" }, visit(first, context, early))
        assert.same({ true, "accepted", "read it" }, visit(second, context, early))
      end
    end)
  end)

  it("leaves TLS 1.2 the keys", function()
    local old = helper.client_context { max_version = "1.2" }
    with_servers(2, { ticket_keys = keys, max_early_data = 100 }, function(first, second)
      local _, session = visit(first, old)
      assert.is_true(visit(second, old, { session = session })[1])
    end)
  end)

  it("that was recorded is not accepted either: the same bytes again", function()
    -- Without the client's keys a replay is the very hello and the records behind it.
    local server = helper.server_context { max_early_data = 100 }
    local a, b = helper.pair(nil, nil, nil, { client = context, server = server })
    helper.together {
      function() assert(a:connect()) assert(a:read(1)) end,
      function() assert(b:accept()) assert(b:write("x")) end,
    }
    local near, far = helper.socketpair()
    local client = assert(context:wrap(near, { server_name = "localhost", session = a:session(), timeout = 0 }))
    assert(client:write_early("pay 5"))
    assert.equal("want_read", helper.code_of(client:connect()))
    local recorded = helper.read_fd(far)
    local taken = {}
    for i = 1, 3 do
      local to, from = helper.socketpair()
      local conn = assert(server:wrap(from, { timeout = 0 }))
      assert(helper.write_fd(to, recorded))
      local data, err = conn:read_early()
      taken[i] = data or err and err.code or "none"
      conn:close()
      helper.close_fd(to)
    end
    assert.same({ "pay 5", "none", "none" }, taken)
    client:close()
    helper.close_fd(far)
    a:close()
    b:close()
  end)
end)
