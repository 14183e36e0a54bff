-- SPDX-License-Identifier: MIT
-- Hooks beyond one first handshake: again after it, in names and other contexts, many at once, three deep, in a process
-- that ends, and without jobs.

local tls = require "cotls"
local core = require "cotls.core"
local luv = require "cotls.luv"
local helper = require "spec.helper"

local ponder, with = helper.ponder, helper.with

local own = helper.leaf { subject = "CN=me" }
local ASKED = { verify_client = "require", ca = helper.ca.certificate }

local function client_context(options)
  return helper.client_context(with({ certificate = own.certificate, key = own.key }, options))
end

describe("a handshake after the first one", function()
  it("asks on_verify anew on TLS 1.3, while data go by", function()
    local told = {}
    local answer = true
    local server = helper.server_context { ca = helper.ca.certificate, min_version = "1.3",
      on_verify = function(_, ok, report)
        ponder()
        told[#told + 1] = report.chain[1]:subject()
        return answer and ok
      end }
    local a, b = helper.handshaken(nil, nil, nil, { client = client_context { post_handshake_auth = true },
      server = server })
    assert.same({}, told)
    local function round()
      return helper.together {
        function()
          if a:read() then assert(a:write("more\n")) end
          return a:read(1)
        end,
        function()
          assert(b:request_client_certificate())
          assert(b:write("go\n"))
          local line, err = b:read()
          if line then assert(b:write("!")) end
          return line, err
        end,
      }
    end
    for count = 1, 2 do
      local got = round()
      assert.same({ "!", "more" }, { got[1][1], got[2][1] })
      assert.equal(count, #told)
    end
    answer = false
    local got = round()
    assert.equal("hook", helper.code_of(got[2][1], got[2][2]))
    assert.equal("bad_certificate", got[1][2].alert.name)
    assert.equal("hook", helper.code_of(b:write("x"))) -- for good
    a:close()
    b:close()
  end)

  it("asks on_verify anew on TLS 1.2, and once for each", function()
    local calls, answer = 0, true
    local server = helper.server_context(with(ASKED, { max_version = "1.2", renegotiation = "allow-client",
      on_verify = function(_, ok)
        ponder()
        calls = calls + 1
        return answer and ok
      end }))
    local a, b = helper.handshaken(nil, nil, nil,
      { client = client_context { max_version = "1.2", renegotiation = "allow" }, server = server })
    for count = 1, 3 do
      assert.equal(count, calls)
      answer = count < 3
      local got = helper.together {
        function()
          local ok, err = a:renegotiate()
          if ok then assert(a:write("x")) end
          return ok, err
        end,
        function() return b:read(1) end,
      }
      if answer then
        assert.equal("x", got[2][1])
      else
        assert.equal("hook", helper.code_of(got[2][1], got[2][2]))
        assert.equal("bad_certificate", got[1][2].alert.name)
      end
    end
    a:close()
    b:close()
  end)

  it("lets a writer know that OpenSSL waits for an answer, and lets it write afterwards", function()
    local busy = 0
    local server = helper.server_context { ca = helper.ca.certificate, min_version = "1.3", on_verify = function(_, ok)
      busy = 1
      for _ = 1, 5 do coroutine.yield() end
      busy = 2
      return ok
    end }
    local a, b = helper.handshaken(nil, nil, nil, { client = client_context { post_handshake_auth = true },
      server = server })
    helper.together {
      function()
        assert.equal("g", a:read(1))
        assert(a:write("x"))
        assert.equal("y", a:read(1))
      end,
      function()
        assert(b:request_client_certificate())
        assert(b:write("g"))
        assert.equal("x", b:read(1))
      end,
      function()
        while busy == 0 do coroutine.yield() end -- the hook says when
        assert.equal("busy", helper.code_of(b:write("y")))
        while busy == 1 do coroutine.yield() end
        assert(b:write("y"))
      end,
    }
    a:close()
    b:close()
  end)
end)

describe("a hook whose coroutine is gone in a renegotiation", function()
  it("is asked again by the next operation, and its answer counts", function()
    for _, answer in ipairs { true, false } do
      local asked = 0
      local client, server = helper.handshaken(nil, nil, nil, {
        client = client_context { max_version = "1.2", renegotiation = "allow" },
        server = helper.server_context(with(ASKED, { renegotiation = "allow-client", on_verify = function(_, ok)
          asked = asked + 1
          if asked == 2 then coroutine.yield() end
          return ok and (asked < 3 or answer)
        end })),
      })
      local other = coroutine.create(function() return client:renegotiate() end)
      local reader = coroutine.create(function() return server:read() end)
      for _ = 1, 100 do
        if asked == 2 then break end
        assert(coroutine.resume(other))
        assert(coroutine.resume(reader))
      end
      assert.equal(2, asked)
      reader = nil -- luacheck: ignore 311
      collectgarbage()
      collectgarbage()
      local ok, err = server:write("x\n")
      assert.equal(3, asked)
      if answer then
        assert(ok, err)
        for _ = 1, 100 do
          if coroutine.status(other) ~= "dead" then assert(coroutine.resume(other)) end
        end
        assert.equal("x", client:read())
      else
        assert.equal("hook", helper.code_of(ok, err))
      end
      client:close()
      server:close()
    end
  end)
end)

describe("after a HelloRetryRequest", function()
  it("every hook was called once", function()
    local calls = {}
    local function count(name, answer)
      return function(_, ...)
        ponder()
        calls[name] = (calls[name] or 0) + 1
        if type(answer) == "function" then return answer(...) end
        return answer
      end
    end
    local server = helper.server_context(with(ASKED, {
      groups = "P-384", min_version = "1.3",
      on_client_hello = count("on_client_hello", true), on_server_name = count("on_server_name", true),
      on_certificate = count("on_certificate", true), on_verify = count("on_verify", true),
      on_alpn = count("on_alpn", "b"), on_ocsp = count "on_ocsp", on_session_get = count "on_session_get",
    }))
    local first = helper.server_context(with(ASKED, { tickets = false }))
    local client = client_context { alpn = { "a", "b" }, ocsp = "request", groups = "X25519:P-384" }
    local a, b = helper.handshaken(nil, nil, nil, { client = client, server = first })
    helper.together { function() a:read(1) end, function() b:write "x" end }
    a:close()
    b:close()
    a, b = helper.handshaken(nil, { session = a:session() }, nil, { client = client, server = server })
    assert.is_true(b:info().hello_retry)
    assert.equal("b", b:alpn())
    assert.same({ on_client_hello = 1, on_server_name = 1, on_certificate = 1, on_verify = 1, on_alpn = 1, on_ocsp = 1,
      on_session_get = 1 }, calls)
    a:close()
    b:close()
  end)
end)

describe("the hooks of names", function()
  it("are those of the context in force, on_client_hello the door's", function()
    for _, case in ipairs {
      { door = {}, named = { "on_alpn", "on_certificate" }, expected = "named on_alpn, named on_certificate" },
      { door = { "on_alpn", "on_certificate" }, named = {}, expected = "" },
      { door = { "on_client_hello", "on_alpn" }, named = { "on_client_hello", "on_alpn" },
        expected = "door on_client_hello, named on_alpn" },
    } do
      local calls = {}
      local function options(who, list)
        local all = {}
        for _, name in ipairs(list) do
          all[name] = function(_, offered)
            ponder()
            calls[#calls + 1] = who .. " " .. name
            return name ~= "on_alpn" or offered[1]
          end
        end
        return all
      end
      local named = helper.server_context(options("named", case.named))
      local door = helper.server_context(with(options("door", case.door), { names = { localhost = named } }))
      local a, b = helper.handshaken(nil, nil, nil, { client = helper.client_context { alpn = { "a" } },
        server = door })
      table.sort(calls)
      assert.equal(case.expected, table.concat(calls, ", "))
      a:close()
      b:close()
    end
  end)

  it("and of a context that a hook sets are asked; who sets one and then refuses has refused", function()
    for _, version in ipairs { "1.2", "1.3" } do
      for _, name in ipairs { "on_client_hello", "on_certificate" } do
        for _, refuses in ipairs { false, true } do
          local calls = {}
          local target = helper.server_context {
            on_verify = function(_, ok) ponder() calls[#calls + 1] = "on_verify" return ok end,
            verify_client = "require", ca = helper.ca.certificate,
          }
          local door = helper.server_context { max_version = version, [name] = function(conn)
            ponder()
            conn:set_context(target)
            ponder()
            if refuses then error "no" end
            return true
          end }
          local a, b = helper.pair(nil, nil, nil, { client = client_context {}, server = door })
          local got, others = helper.greet(a, b)
          if refuses then
            assert.equal("hook", helper.code_of(others[1], others[2]))
            assert.equal("alert", helper.code_of(got[1], got[2]))
            assert.same({}, calls)
          else
            assert.equal("x", got[1], tostring(got[2]) .. tostring(others[2]))
            assert.same({ "on_verify" }, calls)
          end
          a:close()
          b:close()
        end
      end
    end
  end)
end)

describe("hooks", function()
  it("shake hands in a hook of a handshake, three deep", function()
    local deepest = 0
    local function level(n)
      local function below()
        deepest = math.max(deepest, n)
        luv.sleep(0.001)
        if n < 3 then level(n + 1) end
        return true
      end
      local server = helper.server_context(with(ASKED, { on_server_name = below,
        on_verify = function(_, ok) luv.sleep(0.001) collectgarbage() return ok end }))
      local a, b = helper.pair(nil, nil, nil, { client = client_context { on_verify = function(_, ok)
        luv.sleep(0.001)
        return ok
      end }, server = server })
      local done
      luv.spawn(function() done = { a:connect() } end)
      assert(b:accept())
      helper.until_true(function() luv.sleep(0.001) return done end)
      assert(done[1], tostring(done[2]))
      a:close()
      b:close()
    end
    helper.in_loop(function() level(1) end)
    assert.equal(3, deepest)
  end)

  -- How late the loop's tick is at most while fn runs, in seconds.
  local function lateness(fn)
    local done, worst, last = false, 0, tls.now()
    luv.spawn(function()
      fn()
      done = true
    end)
    while not done do
      luv.sleep(0.002)
      worst, last = math.max(worst, tls.now() - last), tls.now()
    end
    return worst - 0.002
  end

  -- What waits is compared with a sleep outside of any hook, in turns: what the machine does beside it comes to both,
  -- and not each time to the same one only.
  local function stalls(wait, tries)
    local client = helper.client_context()
    local server = helper.server_context { on_server_name = function() wait() return true end }
    local least = math.huge
    helper.in_loop(function()
      for _ = 1, tries do
        local a, b = helper.pair(nil, nil, nil, { client = client, server = server })
        luv.spawn(function() a:connect() end)
        local with_hook = lateness(function() assert(b:accept()) end)
        least = math.min(least, with_hook - lateness(function() luv.sleep(0.5) end))
        a:close()
        b:close()
        if least < 0.02 * helper.slow then break end
      end
    end, 60)
    return least
  end

  it("keep nobody else waiting", function()
    local least = stalls(function() luv.sleep(0.5) end, 15)
    assert.is_true(least < 0.02 * helper.slow, least)
    if helper.slow > 1 then return end
    least = stalls(function() -- one that doesn't let others have their turn is noticed
      local till = tls.now() + 0.04
      repeat until tls.now() > till
    end, 3)
    assert.is_true(least > 0.02, least)
  end)

  it("pause many handshakes at once, and all complete", function()
    local count = helper.slow < 10 and 1000 or 30
    for _, name in ipairs { "on_client_hello", "on_server_name" } do
      local waiting, most, open = 0, 0, false
      local server = helper.server_context { [name] = function()
        waiting = waiting + 1
        most = math.max(most, waiting)
        while not open do coroutine.yield() end
        waiting = waiting - 1
        return true
      end }
      local contexts = { client = helper.client_context(), server = server }
      local cos, conns = {}, {}
      for i = 1, count do
        local ok, a, b = pcall(helper.pair, nil, nil, nil, contexts)
        if not ok then break end -- out of descriptors
        conns[i] = { a, b }
        cos[#cos + 1] = coroutine.create(function() return a:connect() end)
        cos[#cos + 1] = coroutine.create(function() return b:accept() end)
      end
      local good = 0
      local deadline = tls.now() + 20 * helper.slow
      repeat
        for i, co in pairs(cos) do
          local _, ok = coroutine.resume(co)
          if coroutine.status(co) == "dead" then
            cos[i] = nil
            if ok then good = good + 1 end
          end
        end
        open = most == #conns
      until next(cos) == nil or tls.now() > deadline
      assert.equal(#conns * 2, good)
      assert.equal(#conns, most)
      for _, pair in ipairs(conns) do
        pair[1]:close()
        pair[2]:close()
      end
    end
  end)

  it("may wait in a process that ends, however it does", function()
    local program = [[
      local helper = require "spec.helper"
      local contexts = { client = helper.client_context(), server = helper.server_context {
        on_server_name = function() coroutine.yield() end } }
      local kept = {}
      for i = 1, 3 do
        local a, b = helper.pair(nil, nil, nil, contexts)
        local one = coroutine.create(function() return a:connect() end)
        local two = coroutine.create(function() return b:accept() end)
        for _ = 1, 3 do coroutine.resume(one) coroutine.resume(two) end
        kept[i] = { one, two }
      end
      io.stdout:write("paused\n")
      io.stdout:flush()
      ]]
    for _, ending in ipairs { "", "os.exit(0, true)", "os.exit(0, false)" } do
      local open = ending:find("false", 1, true) and helper.ends_open
      local status, out, err = helper.run({ helper.lua, "-e", program .. ending }, nil, { env = open or nil })
      assert.same({ 0, "paused\n" }, { status, out }, err)
    end
  end)

  it("without jobs are refused by name, but for those that OpenSSL retries or that are asked in advance", function()
    core.set_async(false)
    local ok, err = pcall(function()
      local leaf = helper.server_leaf
      for _, name in ipairs { "on_verify", "on_psk" } do -- for the others see prefetch_spec.lua
        helper.assert_refused(name, { "can't suspend" }, tls.context { role = "server", certificate = leaf.certificate,
          key = leaf.key, [name] = print })
      end
      for _, version in ipairs { "1.2", "1.3" } do
        local function yes() ponder() return true end
        local a, b = helper.handshaken(nil, nil, nil, {
          client = client_context { max_version = version, on_verify = yes, on_certificate = yes },
          server = helper.server_context(with(ASKED, { on_client_hello = yes, on_certificate = yes })),
        })
        a:close()
        b:close()
      end
    end)
    core.set_async(true)
    assert(ok, err)
  end)
end)
