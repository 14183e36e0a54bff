local tls = require "cotls"
local helper = require "spec.helper"

local CA = helper.ca.certificate
local CA_DER = helper.openssl({ "x509", "-outform", "DER" }, CA)

describe("ca", function()
  local function trusts(ca)
    local client = assert(tls.context { ca = ca })
    local a, b = helper.pair(nil, nil, nil, { client = client, server = helper.contexts().server })
    local got = helper.together { function() return a:connect() end, function() return b:accept() end }
    if got[1][1] then return true end
    assert.equal("verify", got[1][2].code)
    return false
  end

  it("is taken in every form of a file, and as a list", function()
    local path = helper.temp_file(CA)
    local other = helper.other_ca.certificate
    for _, ca in ipairs { CA, CA_DER, path, helper.temp_file(CA_DER), { file = path }, { data = CA }, { data = CA_DER },
      { CA }, { other, CA }, { path, other }, CA .. other, other .. CA, { { file = path } }, { CA, CA }, CA .. CA } do
      assert.is_true(trusts(ca))
    end
    assert.is_false(trusts(other))
    assert.is_false(trusts { other })
  end)

  it("may be a directory, hashed as OpenSSL does", function()
    local dir = helper.temp_dir()
    local handle = assert(io.open(dir .. "/ca.pem", "w"))
    handle:write(CA)
    handle:close()
    assert.is_false(trusts(dir)) -- not yet hashed
    helper.openssl { "rehash", dir }
    assert.is_true(trusts(dir))
    assert.is_true(trusts { file = dir })
    assert.is_true(trusts { helper.other_ca.certificate, dir })
  end)

  it("is no directory that OpenSSL would take for a list", function()
    local dir = helper.temp_dir() .. "/a:b"
    assert(require "luv".fs_mkdir(dir, 448))
    local context, err = tls.context { ca = dir }
    assert.is_nil(context)
    assert.equal("ca: " .. dir .. ": a directory with a colon in its path can't be used", err.reason)
    os.remove(dir)
  end)

  it("replaces the system's", function()
    assert.is_false(trusts(helper.other_ca.certificate))
  end)

  it("of a server is told to clients", function()
    local told
    helper.in_loop(function()
      local luv = require "cotls.luv"
      local twin = tls.make_certificate { subject = "CN=Other CA", is_ca = true } -- its name is told once
      local context = helper.server_context { verify_client = "optional",
        ca = { CA, helper.other_ca.certificate, twin.certificate } }
      local listener = assert(tls.listen("127.0.0.1", 0, { context = context }))
      luv.spawn(function()
        local conn = listener()
        assert(conn:accept())
        conn:shutdown()
        conn:close()
        listener:close()
      end)
      local _, out = helper.run { "openssl", "s_client", "-connect", "127.0.0.1:" .. listener:port() }
      told = out
    end)
    assert.matches("Acceptable client certificate CA names\n[^\n]*Test CA\n[^\n]*Other CA\n", told)
    assert.equal(1, select(2, told:gsub("\n[^\n]*Other CA\n", "")))
  end)
end)
