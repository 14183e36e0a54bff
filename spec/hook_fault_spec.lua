-- SPDX-License-Identifier: MIT
-- Ways around a hook: another ClientHello than the one it has judged, a context whose hooks come too late, more
-- questions than it can answer, more results than fit.

local compat = require "cotls.compat"
local bytes = require "spec.bytes"
local hello = require "spec.hello"
local helper = require "spec.helper"
local visits = require "spec.visit"

local ALPN, PRE_SHARED_KEY = 16, 41
local CA = helper.ca.certificate

local function yes() return true end

local function accept(client, server, options)
  local got = visits.greet(client, server, options)
  local alpn, session = got.server:alpn(), got.ok and got.client:session()
  visits.close(got)
  return got.server_ok and true, got.server_err, alpn, session
end

-- What comes of set_context(context) in that hook.
local function sets(hook, context, options)
  local reason
  options = options or {}
  options[hook] = function(conn)
    local ok, message = pcall(conn.set_context, conn, context)
    reason = not ok and message or nil
    return true
  end
  local server = helper.server_context(options)
  local ok = accept(helper.contexts().client, server)
  assert.is_true(ok)
  return reason
end

describe("after a HelloRetryRequest", function()
  local client = helper.client_context { groups = "X25519:P-384" }
  local options = { server_name = "localhost", alpn = { "a" } }

  for _, hook in ipairs { "on_client_hello", "on_server_name", "on_certificate" } do
    it(hook .. " has judged the first hello, and another is refused", function()
      local server = helper.server_context { groups = "P-384", [hook] = yes }
      assert.equal("ServerHello", (hello.retry(server, client, options, function(record) return record end)))
      for type, content in pairs { [hello.SERVER_NAME] = hello.server_name("other.example"), [ALPN] = "\0\2\1b" } do
        local alert, err = hello.retry(server, client, options, function(record)
          return hello.with(record, type, content)
        end)
        assert.equal(47, alert)
        assert.equal("the client has changed its ClientHello after a HelloRetryRequest", err.reason)
      end
    end)
  end
end)

describe("set_context", function()
  it("takes no context whose hooks would not be asked any more", function()
    for hook, later in pairs {
      on_client_hello = { "on_client_hello" },
      on_server_name = { "on_client_hello", "on_server_name" },
      on_certificate = { "on_client_hello", "on_server_name", "on_certificate", "on_alpn" },
    } do
      for _, name in ipairs(later) do
        local reason = sets(hook, helper.server_context { [name] = function() return nil end })
        assert.matches("a hook that would not be asked any more", reason, hook .. " " .. name)
      end
    end
    assert.is_nil(sets("on_client_hello", helper.server_context { on_server_name = yes, on_certificate = yes }))
  end)

  it("takes no context that does not take what is agreed on", function()
    local old = helper.server_context { max_version = "1.2" }
    local suite = helper.server_context { ciphersuites = "TLS_CHACHA20_POLY1305_SHA256", ca = CA }
    assert.matches("protocol version", sets("on_server_name", old))
    assert.matches("protocol version", sets("on_certificate", old))
    assert.matches("cipher suite", sets("on_certificate", suite, { ciphersuites = "TLS_AES_128_GCM_SHA256" }))
    assert.is_nil(sets("on_client_hello", old))
  end)

  it("takes no other one in a renegotiation", function()
    local other, messages = helper.server_context { max_version = "1.2" }, {}
    local client, server = helper.handshaken(nil, nil, nil, {
      client = helper.client_context { max_version = "1.2", renegotiation = "allow" },
      server = helper.server_context { renegotiation = "allow-client", on_client_hello = function(conn)
        local ok, message = pcall(conn.set_context, conn, #messages == 0 and conn:context() or other)
        messages[#messages + 1] = ok or message
        return true
      end } })
    helper.together {
      function()
        assert(client:renegotiate())
        assert(client:shutdown("write"))
      end,
      function() assert.equal("", server:read("a")) end,
    }
    assert.equal(2, #messages)
    assert.is_true(messages[1])
    assert.matches("set_context: the first ClientHello has chosen the context", messages[2], 1, true)
    client:close()
    server:close()
  end)

  it("takes none that verifies otherwise, at a client", function()
    local own = helper.leaf()
    local server = helper.server_context { verify_client = "optional", ca = CA }
    local reason
    local client = helper.client_context { certificate = own.certificate, key = own.key,
      on_certificate = function(conn)
        local ok, message = pcall(conn.set_context, conn, helper.client_context { insecure = true })
        reason = not ok and message
        return true
      end }
    assert.is_true(accept(client, server))
    assert.matches("verifies otherwise", reason)
  end)
end)

describe("set_context and use_certificate", function()
  local leaf = helper.leaf { names = { "other.example" } }
  local changes = {
    set_context = helper.server_context(),
    use_certificate = { certificate = leaf.certificate, key = leaf.key },
  }

  it("raise but in the hooks that come early enough", function()
    for name, value in pairs(changes) do
      local text = name .. ": only in on_client_hello, on_server_name and on_certificate"
      local _, server = helper.pair()
      assert.has_error(function() server[name](server, value) end, text)
      local message
      local ok, _, alpn = accept(helper.contexts().client, helper.server_context { on_alpn = function(conn, offered)
        message = select(2, pcall(conn[name], conn, value))
        return offered[1]
      end }, { alpn = { "a" } })
      assert.same({ true, "a" }, { ok, alpn })
      assert.matches(text, message, 1, true)
      server:close()
    end
  end)

  it("a certificate that OpenSSL does not take is refused", function()
    local weak = helper.leaf { key_type = "rsa", bits = 1024 }
    local err
    assert.is_true(accept(helper.contexts().client, helper.server_context { on_certificate = function(conn)
      err = select(2, conn:use_certificate { certificate = weak.certificate, key = weak.key })
      return true
    end }))
    assert.same({ "config", "certificate: ee key too small" }, { err.code, err.reason })
  end)
end)

it("a hook may give as many results as it likes", function()
  local many = {}
  for i = 1, 2000 do many[i] = i end
  for n = 1, 2000, 37 do
    local server = helper.server_context {
      on_alpn = function(_, offered) return offered[1], compat.unpack(many, 1, n) end,
      on_certificate = function() return true, compat.unpack(many, 1, n) end,
    }
    local ok, _, alpn = accept(helper.contexts().client, server, { alpn = { "a" } })
    assert.same({ true, "a" }, { ok, alpn })
  end
end)

it("one hello asks on_session_get no more than 64 times, and is refused then", function()
  local client = helper.client_context { min_version = "1.3" }
  local asked = 0
  local server = helper.server_context { on_session_get = function() asked = asked + 1 end }
  local _, _, _, session = accept(client, helper.server_context())
  local record = hello.of(client, { server_name = "localhost", session = session })
  local ids, binders = {}, {}
  for i = 1, 100 do
    ids[i] = bytes.pack(">s2 I4", ("%032d"):format(i), 0)
    binders[i] = bytes.pack(">s1", ("b"):rep(32))
  end
  local content = bytes.pack(">s2 s2", table.concat(ids), table.concat(binders))
  local _, err = hello.meet(server, hello.with(record, PRE_SHARED_KEY, content))
  assert.equal(64, asked)
  assert.equal("hook", err.code)
end)
