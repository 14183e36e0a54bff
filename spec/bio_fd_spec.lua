-- SPDX-License-Identifier: MIT
-- The BIO over a descriptor: a stream that is cut at every byte, sends that are taken in part, resets, and the right
-- bytes in order after a write that was given up.

local tls = require "cotls"
local uv = require "luv"
local helper = require "spec.helper"

local code_of = helper.code_of

local noise = helper.noise

local versions = { "1.2", "1.3" }

-- How far apart the cuts are: every byte natively.
local STRIDE = helper.slow == 1 and 1 or helper.slow < 10 and 7 or 83

describe("a handshake cut after each byte", function()
  -- One handshake over a relay that is cut after `count` bytes in a direction; what each end comes to.
  local function shake(version, count, direction)
    local contexts = helper.contexts(version)
    local a, b, relay = helper.relay(17000)
    if count then relay:cut(count, direction) end
    local client = assert(contexts.client:wrap(a, { server_name = "localhost" }))
    local server = assert(contexts.server:wrap(b))
    local needed
    local results = helper.together({
      function()
        local ok, err = client:connect()
        needed = relay.down.passed
        return ok, err
      end,
      function() return server:accept() end,
    }, function() relay:pump() end)
    client:close()
    server:close()
    relay:close()
    return results[1], results[2], relay.up.passed, relay.down.passed, needed
  end

  local function check(result, where)
    if result[1] == nil then
      local err = result[2]
      assert(tls.is_error(err), where)
      assert(err.code == "truncated" or err.code == "system", where .. ": " .. err.code)
      assert(#tostring(err) > 10 and not tostring(err):find("\n"), where)
      return false
    end
    return true
  end

  for _, version in ipairs(versions) do
    it(("TLS %s, the client's flight: the server gets an error object"):format(version), function()
      local _, _, total = shake(version)
      assert.is_true(total > 200)
      -- the lengths of signatures differ by a few bytes from one handshake to the next; the client sends none
      for count = 0, total - 1, STRIDE do
        local where = ("cut after %d of %d bytes up"):format(count, total)
        local client, server = shake(version, count, "up")
        check(client, where)
        assert.is_false(check(server, where), where)
      end
      local client, server = shake(version, total, "up")
      check(client, "after all")
      check(server, "after all")
    end)

    it(("TLS %s, the server's flight: the client gets an error object"):format(version), function()
      local _, _, _, total, needed = shake(version)
      assert.is_true(needed > 500)
      for count = 0, total + 10, STRIDE do
        local where = ("cut after %d of %d bytes down"):format(count, total)
        local client, server = shake(version, count, "down")
        local done = check(client, where)
        check(server, where)
        -- an ECDSA signature has 70 to 72 bytes, most often
        if count < needed - 16 then assert.is_false(done, where) end
      end
    end)
  end

  it("the reader's error is \"truncated\"", function()
    for _, version in ipairs(versions) do
      for _, count in ipairs { 0, 1, 5, 100 } do
        local _, server = shake(version, count, "up")
        assert.equal("truncated", code_of(server[1], server[2]), version .. " " .. count .. tostring(server[2]))
        assert.equal("accept", server[2].operation)
        local client = shake(version, count, "down")
        assert.equal("truncated", code_of(client[1], client[2]), version .. " down" .. count .. tostring(client[2]))
        assert.equal("connect", client[2].operation)
      end
    end
  end)
end)

describe("application data cut after each byte", function()
  it("is truncated until the last byte of close_notify", function()
    for _, version in ipairs(versions) do
      local contexts = helper.contexts(version)
      local total
      local function transfer(count)
        local client, server, pump, relay = helper.handshaken(helper.transports[6], nil, nil, contexts)
        helper.together({
          function() assert.equal("x", client:read(1)) end,
          function() assert(server:write("x")) end,
        }, pump)
        local from = relay.down.passed
        if count then relay:cut(from + count, "down") end
        assert(server:write("hello"))
        assert(server:shutdown("write"))
        local got = helper.together({ function() return client:read("a") end }, pump)[1]
        local passed = relay.down.passed - from
        local text = got[1] or client:recv() or ""
        client:close()
        server:close()
        relay:close()
        return got, passed, text
      end
      local got
      got, total = transfer()
      assert.equal("hello", got[1])
      local seen = ""
      for count = 0, total - 1 do
        local text
        got, _, text = transfer(count)
        assert.equal("truncated", code_of(got[1], got[2]), count)
        assert.is_true(text == "" or text == "hello")
        assert.is_true(#text >= #seen)
        seen = text
      end
      assert.equal("hello", seen)
      assert.equal("hello", transfer(total)[1])
    end
  end)
end)

describe("a write that was given up", function()
  -- What the server has read when all is over: text, or the rest's error.
  local function read_all(server)
    local parts = {}
    while true do
      local part, err = server:recv()
      if not part then return table.concat(parts), err end
      parts[#parts + 1] = part
    end
  end

  -- Writes until the socket is full and the coroutine is resumed with nil, "timeout".
  local function give_up(client, data)
    local co = coroutine.create(function() return client:write(data) end)
    local _, conn, want = coroutine.resume(co)
    assert.equal(client, conn)
    assert.equal("write", want)
    local _, ok, err = coroutine.resume(co, nil, "timeout")
    assert.equal("timeout", code_of(ok, err))
    assert.is_true(err.written > 0 and err.written < #data)
    return err.written
  end

  local names = { "a relay of 512 bytes, small buffers", "a socketpair", "small buffers", "TCP" }
  if helper.slow >= 10 then names = { "small buffers" } end
  for _, name in ipairs(names) do
    for _, version in ipairs(versions) do
      local function make()
        return helper.handshaken(name, nil, nil, helper.contexts(version))
      end
      -- TCP's buffers on the loopback grow to megabytes
      local size = name == "TCP" and 0x800000 or 600000
      local data = noise(size)

      it(("then another write: over %s, TLS %s"):format(name, version), function()
        local client, server, pump = make()
        local written = give_up(client, data)
        -- of the very same length as the record that is left, and shorter ones
        local others = { ("A"):rep(16384), ("B"):rep(5), "", ("C"):rep(20000) }
        local results = helper.together({
          function()
            for _, other in ipairs(others) do assert(client:write(other)) end
            assert(client:shutdown("write"))
          end,
          function() return read_all(server) end,
        }, pump)
        assert.is_nil(results[2][2])
        assert.is_true(results[2][1] == data:sub(1, written) .. table.concat(others))
      end)

      it(("then the rest: over %s, TLS %s"):format(name, version), function()
        local client, server, pump = make()
        local written = give_up(client, data)
        local results = helper.together({
          function()
            assert(client:write(data:sub(written + 1)))
            client:close()
          end,
          function() return read_all(server) end,
        }, pump)
        assert.is_true(results[2][1]:sub(1, #data) == data or #results[2][1] < #data)
        assert.is_true(data:sub(1, #results[2][1]) == results[2][1])
      end)

      it(("then a shutdown: over %s, TLS %s"):format(name, version), function()
        for _, how in ipairs { "write", "both" } do
          local client, server, pump = make()
          local written = give_up(client, data)
          local results = helper.together({
            function() assert(client:shutdown(how)) end,
            function()
              local text, err = read_all(server)
              assert(server:shutdown())
              return text, err
            end,
          }, pump)
          assert.is_nil(results[2][2])
          assert.is_true(results[2][1] == data:sub(1, written))
        end
      end)

      it(("then close: over %s, TLS %s"):format(name, version), function()
        local client, server, pump = make()
        helper.together({ -- session tickets are out of the way: else close is a reset
          function() assert.equal("x", client:read(1)) end,
          function() assert(server:write("x")) end,
        }, pump)
        local written = give_up(client, data)
        client:close()
        local results = helper.together({ function() return read_all(server) end }, pump)
        local text, err = results[1][1], results[1][2]
        if name == "TCP" and not err then -- its buffers have grown meanwhile: all of it has gone out
          assert.equal(written, #text)
        else
          assert.equal("truncated", err and err.code)
        end
        assert.is_true(#text <= written)
        assert.is_true(data:sub(1, #text) == text)
      end)

      it(("then reading only: over %s, TLS %s"):format(name, version), function()
        local client, server, pump = make()
        local written = give_up(client, data)
        helper.together({
          function() return client:read(5) end,
          function() assert(server:write("hello")) end,
        }, pump)
        local results = helper.together({
          function() assert(client:shutdown("write")) end,
          function() return read_all(server) end,
        }, pump)
        assert.is_true(results[2][1] == data:sub(1, written))
      end)
    end
  end

  it("many times over, by timeout 0, cancellation and close of the coroutine", function()
    local client, server = helper.handshaken("small buffers")
    local sent, got = {}, {}
    server:settimeout(0)
    local number = 0
    for round = 1, 60 do
      local piece = noise(3000 + 997 * round)
      local co = coroutine.create(function() return client:write(piece, round, piece) end)
      local _, who = coroutine.resume(co)
      local whole = piece .. round .. piece
      if coroutine.status(co) == "suspended" then
        if round % 2 == 0 then
          local part = server:recv()
          if part then got[#got + 1] = part end
          coroutine.resume(co)
        end
      end
      if coroutine.status(co) == "suspended" then
        local _, ok, err = coroutine.resume(co, nil, "round over")
        assert.equal("cancelled", code_of(ok, err))
        sent[#sent + 1] = whole:sub(1, err.written)
        number = number + 1
      else
        assert.equal(client, who)
        sent[#sent + 1] = whole
      end
      for _ = 1, 3 do
        local part = server:recv(5000)
        if part then got[#got + 1] = part end
      end
    end
    assert.is_true(number > 10)
    server:settimeout(nil)
    helper.together {
      function() assert(client:shutdown("write")) end,
      function() got[#got + 1] = server:read("a") end,
    }
    assert.is_true(table.concat(got) == table.concat(sent))
  end)
end)

describe("a peer that has gone", function()
  it("is a write's \"system\" error, and SIGPIPE ends nobody", function()
    -- a child without libuv, whose handler would hide the signal; it takes its sockets from us
    local status, out, err = helper.run({ helper.lua, "-e", [[
      local tls, core = require "cotls", require "cotls.core"
      local ca = tls.make_certificate { subject = "CN=x", names = { "localhost" } }
      local clients = assert(tls.context { ca = ca.certificate })
      local servers = assert(tls.context { role = "server", certificate = ca.certificate, key = ca.key })
      local listening = assert(core.listen_socket("127.0.0.1", 0))
      local address, port = listening:address()
      local client = assert(clients:wrap(assert(core.connect_socket(address, port)), { server_name = "localhost" }))
      local accepted
      repeat accepted = listening:accept() until accepted
      local server = assert(servers:wrap(accepted))
      local tasks = {
        coroutine.create(function() assert(client:connect()) end),
        coroutine.create(function() assert(server:accept()) end),
      }
      for _ = 1, 1e6 do
        local busy = false
        for _, co in ipairs(tasks) do
          if coroutine.status(co) == "suspended" then
            assert(coroutine.resume(co))
            busy = true
          end
        end
        if not busy then break end
      end
      server:close()
      for _ = 1, 1000 do
        local ok, err = client:write("hello")
        if not ok then
          print(err.code, err.errno, err.written)
          print(client:write "more" == nil)
          print(client:shutdown "write" == nil)
          client:close()
          os.exit(0, true)
        end
      end
    ]] })
    assert.equal(0, status, err)
    assert.matches("^system\t%d+\t%d+\ntrue\ntrue\n$", out)
  end)

  it("leaves what it had sent readable after a write has failed", function()
    local client, server = helper.handshaken(nil, nil, nil, helper.contexts "1.2")
    assert(server:write("last words"))
    server:close()
    local ok, err = client:write("x")
    assert.equal("system", code_of(ok, err))
    assert.is_number(err.errno)
    assert.matches("pipe", tostring(err))
    ok, err = client:write("x")
    assert.equal("system", code_of(ok, err))
    local results = helper.together { function() return client:read("a") end }
    assert.equal("last words", results[1][1])
    assert.is_nil(client:read(1))
  end)

  it("by a reset is \"system\" with errno", function()
    local client, server = helper.handshaken("TCP", nil, nil, helper.contexts "1.2")
    assert(client:write("unread")) -- closing over unread data resets
    server:close()
    local got = helper.together {
      function()
        local data, err
        repeat data, err = client:read(1) until not data
        return data, err
      end,
    }[1]
    -- close_notify may come before the reset, and is an end then
    if got[2] then
      assert.equal("system", got[2].code)
      assert.is_number(got[2].errno)
      assert.matches("127.0.0.1", got[2].peer, 1, true)
    end
    local ok, err
    helper.until_true(function()
      ok, err = client:write("x")
      return not ok
    end, "a failing write")
    assert.equal("system", code_of(ok, err))
  end)
end)

describe("bytes that are no TLS", function()
  it("are an error for a server and for a client", function()
    local all = { "GET / HTTP/1.0\r\n\r\n", ("\0"):rep(600), ("\22\3\1\255\255"):rep(100), "\21\3\3\0\2\2\40" }
    for _, garbage in ipairs(all) do
      local a, b = helper.socketpair()
      local server = assert(helper.contexts().server:wrap(a))
      assert(helper.write_fd(b, garbage))
      local got = helper.together { function() return server:accept() end }[1]
      local code = code_of(got[1], got[2])
      assert.is_true(code == "tls" or code == "alert", code)
      assert.is_true(#got[2].queue > 0)
      assert.is_nil(server:fileno())
      helper.close_fd(b)

      a, b = helper.socketpair()
      local client = assert(helper.contexts().client:wrap(a, { server_name = "localhost" }))
      assert(helper.write_fd(b, garbage))
      got = helper.together { function() return client:connect() end }[1]
      code = code_of(got[1], got[2])
      assert.is_true(code == "tls" or code == "alert", code)
      helper.close_fd(b)
    end
  end)

  it("at random never crash", function()
    for i = 1, helper.slow < 10 and 200 or 20 do
      local a, b = helper.socketpair()
      local server = assert(helper.contexts().server:wrap(a))
      local garbage = (i % 2 == 0 and "\22\3\1" or "") .. noise(i * 7):sub(i % 5)
      assert(helper.write_fd(b, garbage))
      helper.close_fd(b)
      local got = helper.together { function() return server:accept() end }[1]
      assert.is_true(tls.is_error(got[2]))
    end
  end)
end)

describe("a received record", function()
  it("takes one recv, and no second one to find that there is no more", function()
    local status = helper.run { "sh", "-c", "command -v strace" }
    if status ~= 0 then return pending "strace is not installed" end
    local trace = helper.temp_file()
    local script = [[
      local helper = require "spec.helper"
      local client, server = helper.handshaken()
      for i = 1, 200 do
        assert(server:write("message"))
        assert(client:recv() == "message")
      end
    ]]
    local code, _, err = helper.run { "strace", "-f", "-o", trace, "-e", "trace=recvfrom", helper.lua, "-e", script }
    if err:find("ptrace", 1, true) then return pending "strace may not trace here" end
    assert.equal(0, code, err)
    local count = 0
    for _ in io.lines(trace) do count = count + 1 end
    -- the handshake's, and the first empty look
    assert.is_true(count >= 200 and count <= 200 + 20, count)
  end)
end)

describe("descriptors", function()
  it("come back after every way to end", function()
    local before = helper.settled_fds()
    for _ = 1, 3 do
      local client, server, _, relay = helper.handshaken("a relay of 512 bytes, small buffers")
      client:close()
      server:close()
      relay:close()
      client, server = helper.handshaken("TCP")
      client:close()
      server:close()
      client, server = helper.pair()
      client:settimeout(0)
      assert.is_nil(client:connect())
      uv.fs_write(client:fileno(), "GET / HTTP/1.0\r\n\r\n", -1)
      assert.is_nil(helper.together { function() return server:accept() end }[1][1])
      client:close()
    end
    assert.equal(before, helper.count_fds())
  end)
end)
