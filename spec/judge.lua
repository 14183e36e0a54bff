-- SPDX-License-Identifier: MIT
-- Who is believed: a client and a server meet, and what comes of it is compared with what must. For specs of
-- verification.
--
--   judge.meet(client, server, options)         → what each side got
--   judge.accepted(meeting), judge.refused(meeting, expected): over TLS 1.2 and 1.3
--   judge.both(certificate, trust, expected)    the same certificate as a server's and as a client's
--   judge.by_name(certificate, strict, lax, expected)  by the context that the server name chooses

local assert = require "luassert"
local tls = require "cotls"
local helper = require "spec.helper"

local judge = {}

local function context(options, version)
  return assert(tls.context(helper.with({ min_version = version, max_version = version }, options)))
end

local function failure(ok, err)
  if ok == nil then return err end
end

--- Lets a client and a server shake hands and then the server send a byte, which only a client that is content gets
-- and that only a server that is content sends.
-- @param client, server contexts
-- @param options of the client's connection; server_name is "localhost" unless given
-- @return { client =, server = (connections), client_error =, server_error = (or nil) }
function judge.meet(client, server, options)
  local got = {}
  got.client, got.server = helper.pair(nil, options, nil, { client = client, server = server })
  helper.together {
    function()
      got.client_error = failure(got.client:connect()) or failure(got.client:read(1))
      got.client:close()
    end,
    function()
      got.server_error = failure(got.server:accept()) or failure(got.server:write("x"))
      if not got.server_error then
        local data, err = got.server:read(1)
        got.server_error = data == nil and err or nil
      end
      got.server:close()
    end,
  }
  return got
end

-- Over both versions, in contexts of their own, with what comes of it.
local function each(meeting, check)
  for _, version in ipairs(meeting.versions or { "1.2", "1.3" }) do
    local client = context(meeting.client, version)
    local server = context(meeting.server, version)
    check(judge.meet(client, server, meeting.options), version)
  end
end

--- Both sides are content.
-- @param meeting { client =, server = options of contexts, options = of the client's connection, versions = }
-- @param more called with what each meeting gave
function judge.accepted(meeting, more)
  each(meeting, function(got)
    if got.client_error then error("the client: " .. tostring(got.client_error), 0) end
    if got.server_error then error("the server: " .. tostring(got.server_error), 0) end
    assert.equal(0, got.client:verify_result().code)
    assert.equal(0, got.server:verify_result().code)
    if more then more(got) end
  end)
end

--- One side refuses the other's certificate, and the other learns it by the alert.
-- @param expected { by = "client" (default) or "server", code =, text = a pattern, alert =, depth =, subject = }
function judge.refused(meeting, expected)
  local by = expected.by or "client"
  each(meeting, function(got)
    local err, seen = got[by .. "_error"], got[by == "client" and "server_error" or "client_error"]
    assert.is_truthy(err, "it was accepted")
    assert.equal("verify", err.code, tostring(err))
    assert.equal(by == "client" and "connect" or "accept", err.operation)
    assert.same({ expected.code, expected.depth or 0, expected.subject },
      { err.verify.code, err.verify.depth, expected.subject and err.verify.subject }, tostring(err))
    assert.matches(expected.text, err.verify.text)
    assert.is_string(err.verify.subject)
    assert.is_truthy(tostring(err):find(err.verify.text, 1, true))
    assert.same({ expected.alert, true }, { err.alert.name, err.alert.sent })
    assert.same(err.verify, got[by]:verify_result())
    assert.is_nil(got[by]:dane_result())
    assert.equal("alert", seen and seen.code, tostring(seen))
    assert.same({ expected.alert, false }, { seen.alert.name, seen.alert.sent })
  end)
end

--- The certificate, with its chain, is a server's before a client, then a client's before a server that requires one
-- and before one that takes it if there is one.
-- @param trust options of the context that judges
-- @param expected as for `refused`; nil: it is accepted
function judge.both(certificate, trust, expected)
  local function as(options) return helper.with(trust, options) end
  local own = { certificate = certificate.certificate, key = certificate.key }
  local meetings = { { client = as {}, server = { role = "server", certificate = own.certificate, key = own.key } } }
  for _, mode in ipairs { "require", "optional" } do
    meetings[#meetings + 1] = {
      client = { ca = helper.ca.certificate, certificate = own.certificate, key = own.key },
      server = as { role = "server", verify_client = mode, certificate = helper.server_leaf.certificate,
        key = helper.server_leaf.key },
    }
  end
  for i, meeting in ipairs(meetings) do
    if expected then
      judge.refused(meeting, helper.with({ by = i == 1 and "client" or "server" }, expected))
    else
      judge.accepted(meeting)
    end
  end
end

--- A server requires a client's certificate; the context that the server name chooses judges it, and no other.
-- @param strict, lax options of contexts, one that refuses the certificate and one that accepts it
-- @param expected as for `refused`
function judge.by_name(certificate, strict, lax, expected)
  local function server(options, names)
    return helper.with(options, { role = "server", verify_client = "require", names = names,
      certificate = helper.server_leaf.certificate, key = helper.server_leaf.key })
  end
  local client = { ca = helper.ca.certificate, certificate = certificate.certificate, key = certificate.key }
  local wish = helper.with(expected, { by = "server" })
  local refuses, accepts = assert(tls.context(server(strict))), assert(tls.context(server(lax)))
  judge.refused({ client = client, server = server(lax, { localhost = refuses }) }, wish)
  judge.accepted { client = client, server = server(strict, { localhost = accepts }) }
  judge.refused({ client = client, server = server(strict, { ["other.example"] = accepts }) }, wish)
end

return judge
