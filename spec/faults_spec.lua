-- SPDX-License-Identifier: MIT
-- What broke when an allocation or a system call failed: each is one scenario of scripts/faults/, from one fault to
-- another. `make faults` runs all of them, with all faults.

local assert = require "luassert"
local compat = require "cotls.compat"
local helper = require "spec.helper"
local inject = require "spec.inject"

local unpack = compat.unpack

describe("with a fault", function()
  local function survives(scenario, kind, first, last, step)
    local code, said, errors = helper.run({ helper.lua, "scripts/faults.lua", "child", scenario, kind,
      tostring(step or 1), tostring(first or 1), tostring(last or 1000000) }, nil,
      { env = inject.env(), seconds = 60 })
    assert.equal("", said:gsub("RUNS %d+ %d+ %d+\n", ""))
    assert.equal(0, code, errors)
    assert.is_true(tonumber(said:match("RUNS (%d+)")) > 0)
  end

  it("a failure whose error finds no memory is not taken for the peer's clean end", function()
    survives("! a client without a certificate on TLS 1.3", "lua", 80, 130)
  end)

  it("a send that fails, though the peer is there, leaves nobody waiting for an answer to it", function()
    survives("a visit on TLS 1.3", "calls")
  end)

  it("a poll that fails is an error value", function()
    survives("a client that waits in poll", "calls", nil, nil, 3)
  end)

  it("a listener whose own address can't be told is none", function()
    survives("a listener and a client in the loop", "calls", nil, 2)
  end)

  it("flush_sessions without memory leaves nothing in OpenSSL's queue", function()
    survives("changes of a context", "openssl")
  end)

  it("a transport's write that raises is no peer that has gone: nobody waits for its alert", function()
    local silent = { read = function() while true do coroutine.yield() end end, write = function() error "no" end }
    local conn = assert(helper.client_context():wrap(silent, { server_name = "localhost", handshake_timeout = 5 }))
    local got = helper.together { function() return conn:connect() end }[1]
    local ok, failure = unpack(got, 1, 2)
    assert.is_nil(ok)
    assert.equal("system", failure.code)
    assert.matches("write failed: .*no", failure.reason)
  end)

  it("a drop-in's failure whose text finds no memory leaves nothing in OpenSSL's queue", function()
    survives("! a wrong password of the drop-in's", "lua")
  end)

  it("a drop-in's handshake whose failure finds no memory is not begun for ever", function()
    survives("! a client without a certificate before the drop-in on TLS 1.2", "lua", 80, 110)
  end)

  it("a drop-in's certificate whose object finds no memory is freed", function()
    survives("the drop-in's certificates", "lua")
  end)

  it("a key that finds no memory is not passed over in silence", function()
    survives("a client's on_psk on TLS 1.2", "openssl", 700)
    survives("a client's on_psk on TLS 1.3", "openssl", 200, 260)
    survives("a client's on_psk on TLS 1.3", "openssl", 1150)
  end)

  it("a transport that is had back is neither closed nor lost", function()
    for _, scenario in ipairs { "a descriptor that is had back on TLS 1.3",
      "a connection under another that is had back on TLS 1.3" } do
      survives(scenario, "lua")
      survives(scenario, "calls")
    end
  end)

  it("a session that OpenSSL's cache finds no memory for is not touched once it is freed", function()
    survives("early data", "openssl", 2700, 3100)
  end)

  it("a pre-shared key's identity that finds no memory is a failure, not a peer without one", function()
    survives("a pre-shared key on TLS 1.2", "openssl", 690, 770)
  end)

  it("a name of make_certificate that finds no memory leaves nothing in OpenSSL's queue", function()
    survives("making a certificate with a key of ec", "openssl", 1, 20)
  end)
end)
