-- Prosody, as Debian has it, with LuaSec and with the drop-in: clients log in over STARTTLS and exchange messages, on
-- one server and from one to another.

local compat = require "cotls.compat"
local helper = require "spec.helper"
local xmpp = require "spec.xmpp"

-- Debian's Prosody and its modules in C are Lua 5.4's.
if _VERSION ~= "Lua 5.4" then return end

local LONG = ("0123456789abcdef"):rep(6 * 1024) -- 96 KiB

local CONFIG = [[
run_as_root = true
data_path = %q
certificates = %q
plugin_paths = { %q }
log = { { levels = { min = "debug" }, to = "console" } }
interfaces = { "127.0.0.1" }
c2s_ports = { %d }
c2s_direct_tls_ports = { %d }
s2s_ports = { %d }
authentication = "internal_plain"
modules_enabled = { "saslauth", "tls", "disco", "posix", "s2s", "s2s_auth_certs", "neighbours" }
c2s_require_encryption = true
s2s_secure_auth = true
ssl = { protocol = %q, cafile = %q }
neighbours = { [%q] = %d }
VirtualHost %q
]]

-- A module of Prosody's for the place of DNS: servers' ports on this machine.
local NEIGHBOURS = [[
module:set_global()
module:log("info", "ssl is %s", require "ssl"._COPYRIGHT)
local service, basic = require "net.resolvers.service", require "net.resolvers.basic"
local ports, new = module:get_option "neighbours", service.new
function service.new(host, name, kind, extra)
  if ports[host] then return basic.new("127.0.0.1", ports[host], kind, extra) end
  return new(host, name, kind, extra)
end
]]

local LUASEC = { name = "LuaSec", preload = {}, copyright = "LuaSec" }
local DROP_IN = { name = "the drop-in", preload = { "-l", "cotls.luasec_preload" }, copyright = "cotls" }

local CA = helper.temp_file(helper.ca.certificate)

local function write(path, text)
  local handle = assert(io.open(path, "wb"))
  assert(handle:write(text))
  handle:close()
end

-- A Prosody for a domain with one or two users, in a folder of its own. neighbour: another domain and its port.
-- @return the child, with its ports in it
local function start(way, protocol, wish)
  local folder, domain = helper.temp_dir(), wish.domain
  local port, direct = helper.free_port(), helper.free_port()
  local leaf = helper.leaf { subject = "CN=" .. domain, names = { domain } }
  local accounts = ("%s/%s/accounts"):format(folder, (domain:gsub("%.", "%%2e")))
  assert(os.execute(("mkdir -p %q"):format(accounts)))
  write(folder .. "/" .. domain .. ".crt", leaf.certificate)
  write(folder .. "/" .. domain .. ".key", leaf.key)
  write(folder .. "/mod_neighbours.lua", NEIGHBOURS)
  for _, user in ipairs { "romeo", "juliet" } do
    write(accounts .. "/" .. user .. ".dat", ("return { password = %q }"):format("secret of " .. user))
  end
  write(folder .. "/prosody.cfg.lua", CONFIG:format(folder, folder, folder, port, direct, wish.s2s_port, protocol, CA,
    wish.neighbour, wish.neighbour_port, domain))
  local argv = helper.append({ helper.lua }, compat.unpack(way.preload))
  helper.append(argv, "/usr/bin/prosody", "-F", "--config", folder .. "/prosody.cfg.lua")
  local child = helper.start(argv, { cwd = folder })
  child.port, child.direct = port, direct
  return child
end

-- One Prosody, or two that know each other's ports: the first for verona.test, the second for mantua.test.
local function start_all(ways, protocol)
  local domains, ports = { "verona.test", "mantua.test" }, { helper.free_port(), helper.free_port() }
  local children = {}
  for i, way in ipairs(ways) do
    children[i] = start(way, protocol, { domain = domains[i], s2s_port = ports[i], neighbour = domains[3 - i],
      neighbour_port = ports[3 - i] })
  end
  local ok, err = pcall(function()
    for i, child in ipairs(children) do
      child:wait_for("Activated service 'legacy_ssl'", 20)
      child:wait_for("ssl is " .. ways[i].copyright)
    end
  end)
  if ok then return children end
  for _, child in ipairs(children) do child:stop() end
  error(err, 0)
end

-- Ends them; they must have had nothing to complain of.
local function stop_all(children)
  for _, child in ipairs(children) do child.result = child:stop() end
  for _, child in ipairs(children) do
    assert.equal(0, child.result, child.stdout .. child.stderr)
    assert.is_nil((child.stdout:match "[^\n]*\terror\t[^\n]*"), child.stdout)
    assert.is_nil((child.stdout:match "[^\n]*[Tt]raceback[^\n]*"), child.stdout)
  end
end

-- Runs fn in the loop; where it fails, the error tells what they have logged.
local function beside(children, fn)
  helper.in_loop(function()
    local ok, err = pcall(fn, compat.unpack(children))
    if ok then return end
    for _, child in ipairs(children) do err = tostring(err) .. "\n" .. child.stdout .. child.stderr end
    error(err, 0)
  end, 20)
end

local function options_for(user, domain, more)
  return helper.with({ domain = domain, user = user, password = "secret of " .. user, mechanism = "PLAIN",
    resource = "spec", context = { ca = helper.ca.certificate } }, more)
end

local function exchange(romeo, juliet)
  for _, text in ipairs { "But soft, what light?", LONG, "" } do
    romeo:say(juliet.jid, text .. ".")
    local from, heard = juliet:hear()
    assert.equal(romeo.jid, from)
    assert.is_true(heard == text .. ".", "another text")
    juliet:say(romeo.jid, "Ay me, " .. text)
    from, heard = romeo:hear()
    assert.equal(juliet.jid, from)
    assert.is_true(heard == "Ay me, " .. text, "another text")
  end
end

local function leave(...)
  for _, client in ipairs { ... } do
    local data, err = client:close()
    assert.is_nil(data)
    assert.is_nil(err)
  end
end

local VERSIONS = {
  { name = "1.2", protocol = "tlsv1_2", logged = "TLSv1%.2 with %S+" },
  { name = "1.3", protocol = "tlsv1_3", logged = "TLSv1%.3 with TLS_%S+" },
}

-- A context's options for a client of one version.
local function only(version)
  return { ca = helper.ca.certificate, min_version = version, max_version = version }
end

for _, way in ipairs { LUASEC, DROP_IN } do
  describe("Prosody with " .. way.name, function()
    local prosody

    setup(function() prosody = start_all({ way }, "tlsv1_2+") end)
    teardown(function() stop_all(prosody) end)

    for _, version in ipairs(VERSIONS) do
      it("lets two clients log in over STARTTLS and exchange messages, TLS " .. version.name, function()
        beside(prosody, function(child)
          local context = { context = only(version.name) }
          local romeo = xmpp.log_in(child.port, options_for("romeo", "verona.test", context))
          local juliet = xmpp.log_in(child.port, options_for("juliet", "verona.test", context))
          assert.equal(version.name, romeo.conn:version():match "%d%.%d$")
          assert.equal("romeo@verona.test/spec", romeo.jid)
          exchange(romeo, juliet)
          leave(romeo, juliet)
          child:wait_for("Stream encrypted %(" .. version.logged)
        end)
      end)
    end

    it("binds the login to TLS 1.2 by SCRAM-SHA-1-PLUS", function()
      beside(prosody, function(child)
        local plus = { mechanism = "SCRAM-SHA-1-PLUS", context = only "1.2" }
        leave(xmpp.log_in(child.port, options_for("romeo", "verona.test", plus)))
        local guess = helper.with(plus, { password = "secret of juliet" })
        assert.has_error(function() xmpp.log_in(child.port, options_for("romeo", "verona.test", guess)) end,
          "login refused: not-authorized")
      end)
    end)

    it("speaks TLS from the first byte, for its own names only", function()
      beside(prosody, function(child)
        local direct = { direct = true }
        leave(xmpp.log_in(child.direct, options_for("romeo", "verona.test", direct)))
        direct.server_name = "mantua.test"
        local client, err = xmpp.connect(child.direct, options_for("romeo", "verona.test", direct))
        assert.is_nil(client)
        assert.equal("alert", err.code)
        assert.equal("unrecognized_name", err.alert.name)
      end)
    end)

    it("hears from a client that does not trust its certificate", function()
      beside(prosody, function(child)
        local wary = { context = { ca = helper.other_ca.certificate } }
        local client, err = xmpp.connect(child.port, options_for("romeo", "verona.test", wary))
        assert.is_nil(client)
        assert.equal("verify", err.code)
        child:wait_for "TLS handshake error: [^\n]*unknown ca"
      end)
    end)
  end)
end

describe("A Prosody with LuaSec and one with the drop-in", function()
  local both

  after_each(function() stop_all(both or {}) end)

  for _, version in ipairs(VERSIONS) do
    it("know each other by their certificates and pass messages on, TLS " .. version.name, function()
      both = start_all({ LUASEC, DROP_IN }, version.protocol)
      beside(both, function(verona, mantua)
        local romeo = xmpp.log_in(mantua.port, options_for("romeo", "mantua.test"))
        local juliet = xmpp.log_in(verona.port, options_for("juliet", "verona.test"))
        exchange(romeo, juliet)
        leave(romeo, juliet)
        for prosody, other in pairs { [verona] = "mantua.test", [mantua] = "verona.test" } do
          prosody:wait_for("Accepting SASL EXTERNAL identity from " .. other)
          prosody:wait_for("SASL EXTERNAL with " .. other .. " succeeded")
          prosody:wait_for "certificate chain validation result: valid"
          prosody:wait_for "certificate identity validation result: valid"
          assert.is_nil((prosody.stdout:match "validation result: invalid"))
        end
      end)
    end)
  end
end)
