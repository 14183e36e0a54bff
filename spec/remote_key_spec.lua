-- Private keys that live elsewhere: src/remote_key.c, src/signing.c.

local helper = require "spec.helper"


-- What each hook does before it answers: it yields twice, and all garbage goes.
local function ponder()
  for _ = 1, 2 do
    coroutine.yield()
    collectgarbage()
  end
end

local function write(path, data)
  local handle = assert(io.open(path, "wb"))
  assert(handle:write(data))
  handle:close()
end

local PADDING = {
  rsa_pss = " -pkeyopt rsa_padding_mode:pss -pkeyopt rsa_pss_saltlen:digest",
  rsa_pkcs1 = " -pkeyopt rsa_padding_mode:pkcs1",
  ecdsa = "", ed25519 = "",
}

-- Signs as somebody else would: with openssl-pkeyutl(1).
local function sign(key, request)
  local base = os.tmpname()
  write(base .. ".key", key)
  write(base .. ".in", request.hashed or request.message)
  local digest = request.digest and " -pkeyopt digest:" .. request.digest:lower() or " -rawin"
  local pipe = assert(io.popen(("openssl pkeyutl -sign -inkey %s.key -in %s.in%s%s"):format(base, base, digest,
    PADDING[request.scheme])))
  local signature = pipe:read("a")
  assert(pipe:close())
  for _, ending in ipairs { "", ".key", ".in" } do os.remove(base .. ending) end
  return signature
end

-- A client and a server meet, and a byte goes by.
local function visit(client, server, options)
  options = options or {}
  options.server_name = options.server_name or "localhost"
  local a, b = helper.pair(nil, options, nil, { client = client, server = server })
  local got = helper.together {
    function()
      local ok, err = a:connect()
      if ok then ok, err = a:read(1) end
      return ok, err
    end,
    function()
      local ok, err = b:accept()
      if ok then ok, err = b:write("x") end
      return ok, err
    end,
  }
  local result = { ok = got[1][1], err = got[1][2], server_err = got[2][2], cipher = b:cipher(),
    peer = b:peer_certificate() }
  a:close()
  b:close()
  return result
end

local function good(...)
  local got = visit(...)
  assert.equal("x", got.ok, tostring(got.err) .. "; " .. tostring(got.server_err))
  return got
end

local KEYS = {
  { name = "P-256", key_type = "ec", scheme = "ecdsa", digests = { ["1.2"] = "SHA256", ["1.3"] = "SHA256" } },
  { name = "RSA", key_type = "rsa", scheme = "rsa_pss", digests = { ["1.2"] = "SHA256", ["1.3"] = "SHA256" } },
  { name = "Ed25519", key_type = "ed25519", scheme = "ed25519", digests = {} },
}
for _, one in ipairs(KEYS) do one.leaf = helper.leaf { key_type = one.key_type } end

for _, version in ipairs { "1.2", "1.3" } do
  for _, one in ipairs(KEYS) do
    describe(("a key of %s elsewhere, on TLS %s"):format(one.name, version), function()
      local only = { min_version = version, max_version = version }
      it("signs for a server", function()
        local requests = {}
        good(helper.client_context(only), helper.server_context {
          certificate = one.leaf.certificate,
          sign = function(conn, request)
            requests[#requests + 1] = request
            assert(conn:is_server())
            ponder()
            return sign(one.leaf.key, request)
          end,
        })
        assert.equal(1, #requests)
        assert.equal(one.scheme, requests[1].scheme)
        assert.equal(one.digests[version], requests[1].digest)
      end)
    end)
  end
end
