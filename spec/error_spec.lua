local compat = require "cotls.compat"
local tls = require "cotls"
local core = require "cotls.core"
local uv = require "luv"
local helper = require "spec.helper"

-- What each error object must be, whatever its code.
local function check(err, code, operation)
  assert.is_true(tls.is_error(err), tostring(err))
  assert.equal(code, err.code, tostring(err))
  if operation then assert.equal(operation, err.operation) end
  assert.is_string(err.reason)
  local text = tostring(err)
  assert.is_true(#text > 0)
  assert.is_nil(text:find("[%c]"), ("%q"):format(text))
  assert.is_truthy(text:find(err.reason, 1, true), text)
  if err.operation then assert.equal(1, (text:find(err.operation .. ": ", 1, true))) end
  return err
end

local function fails(code, operation, value, err)
  assert.is_nil(value)
  return check(err, code, operation)
end

-- Sends raw bytes to the transport of one side, and closes the other.
local function client_against(bytes)
  local fd, other = helper.socketpair()
  local client = assert(helper.contexts().client:wrap(fd, { server_name = "localhost", timeout = 5 }))
  assert(helper.write_fd(other, bytes))
  return client, other
end

describe("is_error", function()
  it("tells error objects from everything else", function()
    local _, err = tls.context { min_version = "9" }
    assert.is_true(tls.is_error(err))
    for _, other in ipairs { false, 1, "x", {}, setmetatable({}, { __tostring = function() return "x" end }),
      { code = "timeout" }, io.stdout } do
      assert.is_false(tls.is_error(other))
    end
    assert.is_false(tls.is_error(nil))
    assert.is_false(pcall(tls.is_error))
  end)

  it("they are tables with a type of their own", function()
    local _, err = tls.context { min_version = "9" }
    assert.equal("table", type(err))
    err.note = "mine"
    assert.equal("mine", err.note)
    local ok, caught = pcall(error, err)
    assert.is_false(ok)
    assert.equal(err, caught)
  end)
end)

describe("the code", function()
  it("\"closed\": by this side", function()
    local client, server = helper.handshaken()
    client:close()
    for _, verb in ipairs { "read", "recv", "peek", "write", "shutdown", "do_handshake", "connect",
      "set_connect_state" } do
      fails("closed", verb, client[verb](client))
    end
    local ok, err = pcall(client:lines())
    assert.is_false(ok)
    check(err, "closed", "read")
    server:close()
  end)

  it("\"closed\": the peer closed where more was needed", function()
    for _, version in ipairs { "1.2", "1.3" } do
      -- close_notify in the middle of a handshake: a controlled shutdown
      local record = version == "1.2" and "\21\3\3\0\2\1\0" or "\21\3\1\0\2\1\0"
      local client, other = client_against(record)
      fails("closed", "connect", client:connect())
      assert.is_nil(client:fileno())
      helper.close_fd(other)
    end
    local client, server = helper.handshaken()
    helper.together { function() assert(client:shutdown("write")) end }
    fails("closed", "write", client:write("x"))
    server:close()
    client:close()
  end)

  it("\"truncated\": the stream ended without close_notify", function()
    for _, version in ipairs { "1.2", "1.3" } do
      local client, server = helper.handshaken(nil, nil, nil, helper.contexts(version))
      getmetatable(server).__close(server, "an error")
      for _ = 1, 3 do -- and again
        local err = fails("truncated", "read", client:read(1))
        assert.equal(0, err.partial)
      end
      fails("truncated", nil, client:write("x"))
      client:close()
    end
    local client, other = client_against("\22\3\3")
    helper.close_fd(other)
    local _, err = client:connect()
    assert.is_true(err.code == "truncated" or err.code == "system", tostring(err))
  end)

  it("\"timeout\"", function()
    local client, server = helper.handshaken()
    client:settimeout(0.01)
    local err = fails("timeout", "read", client:read(1))
    assert.equal(0, err.partial)
    client:settimeout(0.01)
    err = fails("timeout", "write", client:write(("x"):rep(16 * 1024 * 1024)))
    assert.is_true(err.written > 0 and err.written < 16 * 1024 * 1024)
    client:close()
    server:close()
  end)

  it("\"want_read\", \"want_write\": only where the timeout is 0", function()
    local client, server = helper.handshaken()
    client:settimeout(0)
    fails("want_read", "read", client:read(1))
    local err = fails("want_write", "write", client:write(("x"):rep(16 * 1024 * 1024)))
    assert.is_true(err.written > 0)
    client:close()
    server:close()
  end)

  it("\"busy\": a second reader, a second writer, anything in a handshake", function()
    local client, server = helper.handshaken()
    local reader = coroutine.create(function() return client:read(1) end)
    assert(coroutine.resume(reader))
    for _, verb in ipairs { "read", "recv", "peek", "shutdown" } do fails("busy", verb, client[verb](client)) end
    local writer = coroutine.create(function() return client:write(("x"):rep(16 * 1024 * 1024)) end)
    assert(coroutine.resume(writer))
    fails("busy", "write", client:write("x"))
    client:close()
    server:close()
    local fresh, peer = helper.pair()
    local shaker = coroutine.create(function() return fresh:connect() end)
    assert(coroutine.resume(shaker))
    for _, verb in ipairs { "connect", "do_handshake", "read", "write", "recv" } do
      fails("busy", verb, fresh[verb](fresh))
    end
    fresh:close()
    peer:close()
  end)

  it("\"cancelled\", with why", function()
    local client, server = helper.handshaken()
    for _, why in ipairs { "because", 42, true, false } do
      local co = coroutine.create(function() return client:read(1) end)
      assert(coroutine.resume(co))
      local _, ok, err = coroutine.resume(co, nil, why)
      fails("cancelled", "read", ok, err)
      assert.equal(tostring(why), err.reason)
    end
    client:close()
    server:close()
  end)

  it("an error object that ends a wait is returned as it is", function()
    local client, server = helper.handshaken()
    local mine = core.error { code = "hook", reason = "mine" }
    local co = coroutine.create(function() return client:read(1) end)
    assert(coroutine.resume(co))
    local _, ok, err = coroutine.resume(co, false, mine)
    assert.is_nil(ok)
    assert.equal(mine, err)
    client:close()
    server:close()
  end)

  it("\"limit\"", function()
    local client, server = helper.handshaken(nil, { read_limit = 4 })
    helper.together { function() assert(server:write("12345\n")) end }
    local err = fails("limit", "read", client:read("l"))
    assert.equal(6, err.partial)
    client:close()
    server:close()
  end)

  it("\"verify\"", function()
    local client, server = helper.pair(nil, nil, nil, helper.strangers())
    local got = helper.together { function() return client:connect() end, function() return server:accept() end }
    local err = fails("verify", "connect", compat.unpack(got[1], 1, 2))
    assert.same({ code = 20, text = err.verify.text, depth = 0, subject = "CN=leaf" }, err.verify)
    assert.is_true(#err.queue > 0)
    assert.matches("certificate verify failed", err.reason)
  end)

  it("\"alert\": what the peer says", function()
    for number, name in pairs { [40] = "handshake_failure", [48] = "unknown_ca", [70] = "protocol_version",
      [80] = "internal_error", [112] = "unrecognized_name", [120] = "no_application_protocol" } do
      local client, other = client_against("\21\3\3\0\2\2" .. string.char(number))
      local err = fails("alert", "connect", client:connect())
      assert.same({ name = name, number = number, sent = false },
        { name = err.alert.name, number = err.alert.number, sent = err.alert.sent })
      assert.equal(name, tostring(err.alert))
      assert.is_truthy(tostring(err):find("alert received: " .. name, 1, true), tostring(err))
      helper.close_fd(other)
    end
    -- one that has no name
    local client, other = client_against("\21\3\3\0\2\2\200")
    local _, err = client:connect()
    check(err, "alert", "connect")
    assert.equal(200, err.alert.number)
    assert.equal("200", tostring(err.alert))
    helper.close_fd(other)
  end)

  it("\"tls\": what is no TLS, and the alert that is sent", function()
    local client, other = client_against("HTTP/1.1 400 Bad Request\r\n\r\n")
    local err = fails("tls", "connect", client:connect())
    assert.is_string(err.library)
    assert.is_true(#err.queue > 0)
    for _, entry in ipairs(err.queue) do assert.is_string(entry.text) end
    assert.is_nil(client:fileno())
    helper.close_fd(other)
  end)

  it("\"tls\": no side is chosen", function()
    local client, server = helper.pair()
    for _, verb in ipairs { "do_handshake", "read", "write" } do
      local err = fails("tls", verb, client[verb](client))
      assert.matches("connection type not set", err.reason)
    end
    fails("tls", "shutdown", client:shutdown())
    helper.shake(client, server)
    client:close()
    server:close()
  end)

  it("\"tls\": bytes that were changed on their way", function()
    local a, b, relay = helper.relay(17000)
    local client = assert(helper.contexts().client:wrap(a, { server_name = "localhost" }))
    local server = assert(helper.contexts().server:wrap(b))
    helper.shake(client, server, function() relay:pump() end)
    for _ = 1, 5 do relay:pump() end
    assert(helper.write_fd(relay.up.to, "\23\3\3\0\32" .. ("x"):rep(32)))
    local err = fails("tls", "read", server:read(1))
    assert.same({ "bad_record_mac", true }, { err.alert.name, err.alert.sent })
    assert.matches("bad record mac", err.reason)
    assert.equal(err, select(2, server:read(1))) -- the same again
    local told = select(2, server:write("x")) -- with its own count of what was written
    assert.same({ err.reason, 0 }, { told.reason, told.written })
    client:close()
    server:close()
    relay:close()
  end)

  it("\"system\": errno and its text", function()
    local client, server = helper.handshaken()
    local fd = client:fileno()
    local holder = uv.new_pipe(false)
    assert(holder:open(fd))
    getmetatable(server).__close(server, "x")
    local err
    for _ = 1, 3 do
      local ok
      ok, err = client:write(("x"):rep(100000))
      if not ok then break end
    end
    check(err, "system", "write")
    assert.equal("integer", compat.math_type(err.errno))
    assert.equal(err.reason, (err.reason:match("^[%w ]+$")))
    assert.is_true(err.written >= 0)
    local conn
    conn, err = tls.connect("127.0.0.1", helper.free_port(), { context = helper.contexts().client })
    fails("system", "connect", conn, err)
    assert.matches("^127%.0%.0%.1:%d+$", err.peer)
    assert.is_truthy(tostring(err):find("[peer " .. err.peer .. "]", 1, true))
    client:close()
  end)

  it("\"config\"", function()
    local err = fails("config", nil, tls.context { max_version = "1.0" })
    assert.matches("^max_version: ", tostring(err))
  end)

  it("\"limit\" of a two-way shutdown", function()
    local client, server = helper.handshaken()
    local got = helper.together {
      function()
        local ok, err = client:shutdown()
        client:close()
        return ok, err
      end,
      function()
        local ok, err = server:write(("x"):rep(4 * 1024 * 1024))
        server:close()
        return ok, err
      end,
    }
    fails("limit", "shutdown", got[1][1], got[1][2])
  end)
end)

describe("an error object", function()
  it("tells the peer of a TCP connection", function()
    local transport
    for _, one in ipairs(helper.transports) do if one.name == "TCP" then transport = one end end
    local client, server = helper.handshaken(transport)
    getmetatable(server).__close(server, "x")
    local err = fails("truncated", "read", client:read(1))
    assert.matches("^127%.0%.0%.1:%d+$", err.peer)
    client:close()
  end)

  it("is one line, whatever is in it", function()
    local client, server = helper.handshaken()
    local co = coroutine.create(function() return client:read(1) end)
    assert(coroutine.resume(co))
    local _, _, err = coroutine.resume(co, nil, "two\nlines")
    assert.equal("cancelled", err.code)
    assert.is_nil(tostring(err):find("\n"), ("%q"):format(tostring(err)))
    client:close()
    server:close()
    for _, name in ipairs { "a\nb.pem", "a\r\n.pem" } do
      _, err = tls.context { ca = { file = "/nonexistent/" .. name } }
      assert.is_nil(tostring(err):find("[\r\n]"), ("%q"):format(tostring(err)))
    end
  end)

  it("a subject with control characters is shown escaped", function()
    local leaf = helper.leaf { subject = "CN=a\\0Ab", names = { "elsewhere.example" } }
    local client, server = helper.pair(nil, nil, nil, { client = helper.contexts().client,
      server = helper.server_context { certificate = leaf.certificate, key = leaf.key } })
    local got = helper.together { function() return client:connect() end, function() return server:accept() end }
    local err = got[1][2]
    assert.equal("verify", err.code)
    assert.is_nil(tostring(err):find("[%c]"), ("%q"):format(tostring(err)))
  end)

  it("nothing of one failure is left for the next, in whatever order", function()
    local function broken()
      local client, other = client_against("HTTP/1.1 400 Bad Request\r\n\r\n")
      local _, err = client:connect()
      helper.close_fd(other)
      return err
    end
    local function timed_out()
      local client, server = helper.handshaken()
      client:settimeout(0.001)
      local _, err = client:read(1)
      client:close()
      server:close()
      return err
    end
    local function truncated()
      local client, server = helper.handshaken()
      getmetatable(server).__close(server, "x")
      local _, err = client:read(1)
      client:close()
      return err
    end
    local function config()
      local _, err = tls.context { ca = { data = "\48\3xxx" } }
      return err
    end
    local expected = { [broken] = "tls", [timed_out] = "timeout", [truncated] = "truncated", [config] = "config" }
    for first in pairs(expected) do
      for second, code in pairs(expected) do
        local before = second()
        first()
        local err = second()
        assert.equal(code, err.code)
        assert.equal(tostring(before), tostring(err))
        assert.same(before.queue, err.queue)
        assert.same(before.alert, err.alert)
        assert.is_nil(err.verify)
      end
    end
    -- and a connection works beside failures of others
    local client, server = helper.handshaken()
    broken()
    config()
    helper.together { function() assert(server:write("fine")) end }
    broken()
    assert.equal("fine", client:read(4))
    client:close()
    server:close()
  end)
end)
