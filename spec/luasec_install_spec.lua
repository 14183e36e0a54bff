-- How the drop-in is installed: by one line, by the interpreter's -l, strict, and with waits that yield.

local uv = require "luv"
local compat = require "cotls.compat"
local luasec = require "cotls.luasec"
local luv = require "cotls.luv"
local settings = require "cotls.luasec.settings"
local helper = require "spec.helper"
local secure = require "spec.secure"

local ssl = secure.ours

-- With these settings for the time of fn.
local function with(wanted, fn)
  for name, value in pairs(wanted) do settings[name] = value end
  local ok, err = compat.pcall(fn)
  for name in pairs(wanted) do settings[name] = false end
  if not ok then error(err, 0) end
end

local WHERE = [[
  local names = { "ssl", "ssl.core", "ssl.context", "ssl.x509", "ssl.config", "ssl.https", "ssl.options" }
  for i, name in ipairs(names) do
    assert(require(name) == require("cotls.luasec." .. (name:match("%.(.*)") or "ssl")), name)
  end
  local s = require("cotls.luasec.settings")
  print(require("ssl")._VERSION, s.strict, s.yielding)
]]

describe("the drop-in's installation", function()
  local function run(...)
    local status, stdout, stderr = helper.run { helper.lua, ... }
    assert.equal("", stderr)
    assert.equal(0, status)
    return stdout
  end

  it("is one line", function()
    assert.equal("1.3.2\tfalse\tfalse\n", run("-e", "require('cotls.luasec').install()" .. WHERE))
  end)

  it("takes what is asked for", function()
    assert.equal("1.3.2\ttrue\ttrue\n",
      run("-e", "require('cotls.luasec').install { strict = true, yielding = true }" .. WHERE))
  end)

  it("is done by the interpreter's -l", function()
    assert.equal("1.3.2\tfalse\tfalse\n", run("-l", "cotls.luasec_preload", "-e", WHERE))
  end)

  it("takes LuaSec's place where that was loaded before", function()
    assert.equal("1.2.0\ttrue\n", run("-e", [[
      local old = require "ssl"
      require("cotls.luasec").install()
      print(old._VERSION, require("ssl") ~= old)
    ]]))
  end)

  it("refuses other options", function()
    for _, wrong in ipairs { 1, "x", { strict = 1 }, { nope = true }, { yielding = "yes" } } do
      local ok, err = pcall(luasec.install, wrong)
      assert.is_false(ok)
      assert.truthy(err:find("cotls.luasec.install: ", 1, true), err)
    end
    assert.has_error(function() luasec.module("nope") end, "cotls.luasec.module: no module 'nope'")
  end)
end)

describe("the strict drop-in", function()
  -- @return does the client take the server, and why not
  local function visit(client_options, name, server_options)
    local ok, why
    with({ strict = true }, function()
      local server, client = secure.pair(ssl, server_options, ssl, client_options)
      if name then client:sni(name) end
      local _
      _, _, ok, why = secure.shake(server, client)
      server:close()
      client:close()
    end)
    return ok, why
  end

  it("verifies the server, by the system's CAs where there are no others", function()
    assert.same({ false, "certificate verify failed" }, { visit(secure.client(), "localhost") })
    assert.is_true((visit(secure.client { cafile = secure.ca }, "localhost")))
  end)

  it("verifies the name", function()
    local trusting = secure.client { cafile = secure.ca }
    assert.same({ false, "certificate verify failed" }, { visit(trusting, "other.example") })
    assert.is_true((visit(secure.client { cafile = secure.ca }, "127.0.0.1")))
  end)

  it("wants a name", function()
    local ok, why = visit(secure.client { cafile = secure.ca })
    assert.is_false(ok)
    assert.truthy(why:find("needs the name to check", 1, true), why)
  end)

  it("verifies nothing where that is said", function()
    assert.is_true((visit(secure.client { verify = "none" }, "other.example")))
    assert.is_true((visit(secure.client { verify = "none" })))
  end)

  it("has no version below TLS 1.2", function()
    with({ strict = true }, function()
      for _, protocol in ipairs { "tlsv1", "tlsv1_1" } do
        assert.same({ nil, ("invalid protocol (%s)"):format(protocol) },
          { ssl.newcontext { mode = "client", protocol = protocol } })
      end
    end)
    local weak = "ALL:@SECLEVEL=0"
    local refused
    local server, client
    with({ strict = true }, function()
      server = assert(ssl.newcontext(secure.server { ciphers = weak }))
    end)
    server, client = secure.pair(ssl, server, ssl, secure.client { protocol = "tlsv1", ciphers = weak })
    refused = secure.shake(server, client)
    server:close()
    client:close()
    assert.is_false(refused)
  end)
end)

describe("the yielding drop-in", function()
  it("lets others run while it waits", function()
    local told = {}
    with({ yielding = true }, function()
      local server, client = secure.pair(ssl, nil, ssl)
      server:settimeout(10 * helper.slow)
      client:settimeout(10 * helper.slow)
      assert(luv.run(function()
        luv.spawn(function()
          assert(server:dohandshake())
          local heard = assert(server:receive("*l"))
          told[#told + 1] = heard
          assert(server:send("pong\n"))
          server:close()
        end)
        assert(client:dohandshake())
        luv.sleep(0.01)
        assert(client:send("ping\n"))
        local heard = assert(client:receive("*l"))
        local _, ending = client:receive("*l")
        told[#told + 1], told[#told + 2] = heard, ending
        client:close()
        return true
      end))
    end)
    assert.same({ "ping", "pong", "closed" }, told)
  end)

  it("lives while it waits, though nobody else holds it, and no longer", function()
    for _, verb in ipairs { "receive", "send" } do
      local got, data, seen = nil, helper.noise(4000000), setmetatable({}, { __mode = "k" })
      with({ yielding = true }, function()
        local server, client = secure.connected(ssl, nil, ssl)
        client:settimeout(10 * helper.slow)
        server:settimeout(10 * helper.slow)
        seen[client] = true
        local box = { client }
        client = nil -- luacheck: ignore 311
        local function take() return table.remove(box) end
        assert(luv.run(function()
          luv.spawn(function() got = { take()[verb](next(seen), verb == "send" and data or "*l") } end)
          for _ = 1, 3 do
            luv.sleep(0.001)
            collectgarbage()
            collectgarbage()
          end
          assert.is_nil(got)
          assert.is_truthy(next(seen))
          if verb == "send" then
            assert.is_true(server:receive(#data) == data)
          else
            server:send("hello\n")
          end
          helper.until_true(function()
            luv.sleep(0.001)
            return got
          end, verb .. "'s end", 10)
          return true
        end))
        server:close()
      end)
      assert.equal(verb == "send" and #data or "hello", got[1])
      collectgarbage()
      collectgarbage()
      assert.is_nil(next(seen))
    end
  end)

  it("is told when another coroutine closes meanwhile", function()
    local got
    with({ yielding = true }, function()
      local server, client = secure.connected(ssl, nil, ssl)
      client:settimeout(nil)
      assert(luv.run(function()
        luv.spawn(function() got = { client:receive("*l", "so far ") } end)
        luv.sleep(0.01)
        client:close()
        return true
      end))
      server:close()
    end)
    assert.same({ nil, "closed", "so far " }, { got[1], got[2], got[3] })
  end)

  it("honours timeouts there", function()
    local got
    with({ yielding = true }, function()
      local server, client = secure.connected(ssl, nil, ssl)
      client:settimeout(0.02)
      assert(luv.run(function()
        got = { client:receive(1) }
        return true
      end))
      client:close()
      server:close()
    end)
    assert.same({ nil, "wantread", "" }, got)
  end)

  it("leaves what one coroutine receives or sends alone when another one comes", function()
    local got, busy = {}, {}
    with({ yielding = true }, function()
      local server, client = secure.connected(ssl, nil, ssl)
      server:settimeout(10 * helper.slow)
      client:settimeout(10 * helper.slow)
      assert(server:send(("a"):rep(1000)))
      assert(luv.run(function()
        luv.spawn(function() got.line = client:receive("*l") end)
        luv.sleep(0.02) -- until it has the bytes
        busy.receive = { client:receive("*l") }
        assert(server:send("b\n"))
        local big = ("z"):rep(4e6)
        luv.spawn(function() got.sent = client:send(big, 101) end)
        busy.send = { client:send("short", 3) }
        assert.equal(#big - 100, #assert(server:receive(#big - 100)))
        while not got.sent do luv.sleep(0.001) end
        return true
      end))
      client:close()
      server:close()
    end)
    assert.same({ nil, "another coroutine is at it", "" }, busy.receive)
    assert.same({ nil, "another coroutine is at it", 2 }, busy.send)
    assert.same({ line = ("a"):rep(1000) .. "b", sent = 4e6 }, got)
  end)

  it("blocks outside a coroutine, and without a scheduler", function()
    with({ yielding = true }, function()
      local server, client = secure.connected(ssl, nil, ssl)
      client:settimeout(0.02)
      local start = uv.hrtime()
      assert.same({ nil, "wantread", "" }, { client:receive(1) })
      assert.truthy(uv.hrtime() - start >= 15e6)
      server:close()
      client:close()
    end)
  end)

  it("leaves nothing behind with the loop when it is closed there", function()
    with({ yielding = true }, function()
      local before = helper.count_fds()
      assert(luv.run(function()
        for _ = 1, 3 do
          local server, client = secure.pair(ssl, nil, ssl)
          server:settimeout(0.01)
          assert.is_false((server:dohandshake()))
          server:close()
          client:close()
        end
        return true
      end))
      collectgarbage()
      collectgarbage()
      assert.truthy(helper.count_fds() <= before + 2)
    end)
  end)
end)
