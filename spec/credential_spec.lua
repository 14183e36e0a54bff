local tls = require "cotls"
local helper = require "spec.helper"

local LEAF = helper.server_leaf
local CA = helper.ca.certificate

local function openssl(argv, input)
  local status, out, err = helper.run({ "openssl", table.unpack(argv) }, input)
  assert.equal(0, status, err)
  return out
end

local DER = openssl({ "x509", "-outform", "DER" }, LEAF.certificate)
local KEY_DER = openssl({ "pkey", "-outform", "DER" }, LEAF.key)
local CA_DER = openssl({ "x509", "-outform", "DER" }, CA)
local ENCRYPTED = openssl({ "pkcs8", "-topk8", "-v2", "aes-256-cbc", "-passout", "pass:open sesame" }, LEAF.key)
local ENCRYPTED_DER = openssl({ "pkcs8", "-topk8", "-v2", "aes-256-cbc", "-outform", "DER", "-passout",
  "pass:open sesame" }, LEAF.key)
local TRADITIONAL = openssl({ "ec", "-aes256", "-passout", "pass:open sesame" }, LEAF.key)
local RSA = helper.leaf { key_type = "rsa" }

local function server(options)
  options.role = "server"
  return tls.context(options)
end

-- A handshake with that server; what the client then has as the peer's certificate.
local function serves(context, client)
  local a, b = helper.handshaken(nil, nil, nil, { client = client or helper.contexts().client, server = context })
  local pem = a:peer_certificate():pem()
  a:close()
  b:close()
  return pem
end

local function refused(option, patterns, context, err)
  assert.is_nil(context)
  assert.is_true(tls.is_error(err))
  assert.equal("config", err.code)
  for _, pattern in ipairs { option .. ": ", table.unpack(patterns) } do
    assert.is_truthy(err.reason:find(pattern, 1, true), err.reason .. "\nwithout: " .. pattern)
  end
  assert.is_nil(tostring(err):find("\n"))
end

describe("a certificate and its key", function()
  it("are taken in every form of a file", function()
    local cert, key = helper.temp_file(LEAF.certificate), helper.temp_file(LEAF.key)
    local cert_der, key_der = helper.temp_file(DER), helper.temp_file(KEY_DER)
    local forms = {
      { LEAF.certificate, LEAF.key }, { DER, KEY_DER }, { cert, key }, { cert_der, key_der },
      { { file = cert }, { file = key } }, { { data = LEAF.certificate }, { data = LEAF.key } },
      { { data = DER }, { data = KEY_DER } }, { { file = cert_der }, { file = key_der } },
      { { LEAF.certificate }, LEAF.key }, { { { data = DER } }, { file = key } },
    }
    for _, form in ipairs(forms) do
      assert.equal(LEAF.certificate, serves(assert(server { certificate = form[1], key = form[2] })))
    end
  end)

  it("of each kind of key", function()
    for _, kind in ipairs { "ec", "rsa", "ed25519" } do
      local one = helper.leaf { key_type = kind }
      assert.equal(one.certificate, serves(assert(server(one))))
    end
  end)

  it("in one file, in either order, with text around", function()
    for _, text in ipairs { LEAF.certificate .. LEAF.key, LEAF.key .. LEAF.certificate,
      "# mine\n" .. LEAF.key .. "between\n" .. LEAF.certificate .. "after" } do
      assert.equal(LEAF.certificate, serves(assert(server { certificate = text })))
      assert.equal(LEAF.certificate, serves(assert(server { certificate = helper.temp_file(text) })))
    end
  end)

  it("with CRLF line ends", function()
    assert(server { certificate = LEAF.certificate:gsub("\n", "\r\n"), key = (LEAF.key:gsub("\n", "\r\n")) })
  end)

  it("with older forms of a key", function()
    local pem = openssl({ "rsa", "-traditional" }, RSA.key)
    assert.matches("BEGIN RSA PRIVATE KEY", pem)
    assert(server { certificate = RSA.certificate, key = pem })
    pem = openssl({ "ec" }, LEAF.key)
    assert.matches("BEGIN EC PRIVATE KEY", pem)
    assert(server { certificate = LEAF.certificate, key = pem })
    local with_parameters = openssl { "ecparam", "-name", "prime256v1" } .. pem -- as openssl ecparam -genkey writes it
    assert(server { certificate = LEAF.certificate, key = with_parameters })
  end)

  it("with the chain behind it, or as a list", function()
    local middle = assert(tls.make_certificate { subject = "CN=Middle", is_ca = true, ca = helper.ca })
    local leaf = helper.leaf { ca = middle }
    local middle_der = openssl({ "x509", "-outform", "DER" }, middle.certificate)
    for _, chain in ipairs {
      leaf.certificate .. middle.certificate,
      { leaf.certificate, middle.certificate },
      { leaf.certificate, { data = middle_der } },
      { helper.temp_file(leaf.certificate), helper.temp_file(middle.certificate) },
      { leaf.certificate .. middle.certificate, CA },
    } do
      assert.equal(leaf.certificate, serves(assert(server { certificate = chain, key = leaf.key })))
    end
    -- without the intermediate the client can't build the chain
    local a, b = helper.pair(nil, nil, nil, { client = helper.contexts().client,
      server = assert(server { certificate = leaf.certificate, key = leaf.key }) })
    local got = helper.together { function() return a:connect() end, function() return b:accept() end }
    assert.equal("verify", got[1][2].code)
    assert.equal(20, got[1][2].verify.code) -- unable to get local issuer certificate
  end)

  it("that don't belong together are refused", function()
    for _, key in ipairs { helper.ca.key, RSA.key, helper.temp_file(RSA.key) } do
      refused("key", { "does not match the certificate", #key < 200 and key or "PEM" },
        server { certificate = LEAF.certificate, key = key })
    end
    refused("key", { "does not match" }, server { certificate = { CA, LEAF.certificate }, key = LEAF.key })
  end)

  it("a client has them, too", function()
    assert(tls.context { ca = CA, certificate = LEAF.certificate, key = LEAF.key })
    refused("key", { "does not match" }, tls.context { certificate = LEAF.certificate, key = RSA.key })
  end)
end)

describe("a file that can't be used is named, with the reason", function()
  local missing = helper.temp_dir() .. "/missing.pem"
  local folder = helper.temp_dir()
  local empty = helper.temp_file ""
  local junk = helper.temp_file "no certificate at all\n"
  local cut = helper.temp_file(LEAF.certificate:sub(1, 300))
  local damaged = helper.temp_file((LEAF.certificate:gsub("\nM", "\nA", 1))) -- no SEQUENCE
  local base64 = helper.temp_file((LEAF.certificate:gsub("M", "!", 5)))
  local second = helper.temp_file(LEAF.certificate .. LEAF.certificate:sub(1, 300))
  local unreadable = "/proc/self/mem" -- opens, and fails to be read
  local only_key = helper.temp_file(LEAF.key)

  local function each(option, options)
    for path, reason in pairs {
      [missing] = "No such file", [folder] = "directory", [empty] = "no ", [junk] = "no ", [unreadable] = "error",
    } do
      if not (option == "ca" and path == folder) then
        options[option] = path
        refused(option, { path, reason }, tls.context(options))
        options[option] = { file = path }
        refused(option, { path, reason }, tls.context(options))
        if option ~= "key" then
          options[option] = { LEAF.certificate, path }
          refused(option, { path, reason }, tls.context(options))
        end
      end
    end
    for _, data in ipairs { "", "junk", "\0\1\2", "\48\0", "\48\130\1\0", ("\48"):rep(1000) } do
      options[option] = { data = data }
      refused(option, { "the data" }, tls.context(options))
    end
    for _, path in ipairs { "", "a\0b", { file = "" } } do
      options[option] = path
      refused(option, { "not a path" }, tls.context(options))
    end
  end

  it("certificate", function()
    each("certificate", { role = "server", key = LEAF.key })
    for _, path in ipairs { cut, damaged, base64, second, only_key } do
      refused("certificate", { path }, server { certificate = path, key = LEAF.key })
    end
    refused("certificate", { "the PEM text" }, server { certificate = LEAF.key, key = LEAF.key })
    refused("certificate", { "the DER data" }, server { certificate = KEY_DER, key = LEAF.key })
    refused("certificate", { "the data" }, server { certificate = { data = DER:sub(1, -2) }, key = LEAF.key })
  end)

  it("key", function()
    each("key", { role = "server", certificate = LEAF.certificate })
    local cut_key = helper.temp_file(LEAF.key:sub(1, 100))
    local damaged_key = helper.temp_file(LEAF.key:sub(1, 60) .. "AAAA" .. LEAF.key:sub(65))
    for _, path in ipairs { cut_key, damaged_key, helper.temp_file(LEAF.certificate) } do
      refused("key", { path }, server { certificate = LEAF.certificate, key = path })
    end
    refused("key", { "the DER data" }, server { certificate = LEAF.certificate, key = DER })
  end)

  it("ca", function()
    each("ca", {})
    for _, path in ipairs { cut, damaged, base64, second, only_key } do
      refused("ca", { path }, tls.context { ca = path })
    end
    refused("ca", { junk }, tls.context { ca = { CA, junk } })
  end)

  it("as a user without the right to read it", function()
    local path = helper.temp_file(LEAF.key)
    assert(require("luv").fs_chmod(path, 0))
    local handle = io.open(path)
    if handle then -- root reads everything: there is nothing to see then
      handle:close()
      return
    end
    refused("key", { path, "Permission denied" }, server { certificate = LEAF.certificate, key = path })
  end)

  it("and no descriptor is left open", function()
    collectgarbage()
    local fds = helper.count_fds()
    for _ = 1, 20 do
      for _, path in ipairs { missing, folder, empty, junk, unreadable } do
        tls.context { ca = path }
        tls.context { role = "server", certificate = path, key = path }
      end
    end
    assert.equal(fds, helper.count_fds())
  end)
end)

describe("an encrypted key", function()
  local forms = { PEM = ENCRYPTED, DER = ENCRYPTED_DER, ["traditional PEM"] = TRADITIONAL }

  local function with(key, password)
    return server { certificate = LEAF.certificate, key = key, password = password }
  end

  for name, key in pairs(forms) do
    it("in " .. name .. " opens with its password, as a string or from a function", function()
      assert.equal(LEAF.certificate, serves(assert(with(key, "open sesame"))))
      local asked = {}
      local path = helper.temp_file(key)
      assert(with(path, function(...)
        asked[#asked + 1] = table.pack(...)
        return "open sesame"
      end))
      assert.equal(1, #asked)
      assert.equal(path, asked[1][1])
    end)

    it("in " .. name .. " is refused without or with a wrong one, and never prompts", function()
      local path = helper.temp_file(key)
      refused("key", { path, "no password" }, with(path))
      refused("key", { path, "no password" }, with(path, function() return nil end))
      for _, wrong in ipairs { "", "open", "open sesame ", ("x"):rep(5000) } do
        refused("key", { path, "wrong password" }, with(path, wrong))
        refused("key", { path, "wrong password" }, with(path, function() return wrong end))
      end
      refused("key", { path, "NUL" }, with(path, "open\0sesame"))
    end)
  end

  it("a password function that gives no string is refused, one that fails is heard", function()
    for _, value in ipairs { 1, true, {} } do
      refused("key", { "password" }, with(ENCRYPTED, function() return value end))
    end
    local mine = {}
    local ok, err = pcall(with, ENCRYPTED, function() error(mine) end)
    assert.is_false(ok)
    assert.equal(mine, err)
  end)

  it("a password function may yield", function()
    local co = coroutine.create(function()
      return with(ENCRYPTED, function() return coroutine.yield("asking") end)
    end)
    assert.same({ true, "asking" }, { coroutine.resume(co) })
    local ok, context = coroutine.resume(co, "open sesame")
    assert.is_true(ok)
    assert.matches("cotls.context", tostring(context))
  end)

  it("a key that is not encrypted needs no password, whatever is given", function()
    assert(with(LEAF.key, "whatever"))
    assert(with(LEAF.key, function() error("not asked") end))
  end)

  it("without a password: a process with a terminal isn't asked on it", function()
    local program = helper.temp_file [[
      local tls = require "cotls"
      local context, err = tls.context { role = "server", certificate = arg[1], key = arg[2] }
      print("said", context, tostring(err))
    ]]
    local cert, key = helper.temp_file(LEAF.certificate), helper.temp_file(ENCRYPTED)
    local command = ("'%s' '%s' '%s' '%s'"):format(helper.lua, program, cert, key)
    local runs = { { "sh", "-c", command .. " </dev/null" }, { "setsid", "sh", "-c", command } }
    if os.execute("script -qec true /dev/null >/dev/null 2>&1 </dev/null") then
      runs[#runs + 1] = { "script", "-qec", command, "/dev/null" } -- under a terminal of its own
    end
    for _, argv in ipairs(runs) do
      local status, out = helper.run(argv, "open sesame\n", { seconds = 20 })
      assert.equal(0, status, out)
      assert.matches("said\tnil\t[^\n]*no password", out)
      assert.is_nil(out:find("pass phrase", 1, true))
    end
  end)
end)

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
    openssl { "rehash", dir }
    assert.is_true(trusts(dir))
    assert.is_true(trusts { file = dir })
    assert.is_true(trusts { helper.other_ca.certificate, dir })
  end)

  it("replaces the system's", function()
    assert.is_false(trusts(helper.other_ca.certificate))
  end)

  it("of a server is told to clients", function()
    local told
    helper.in_loop(function()
      local luv = require "cotls.luv"
      local context = helper.server_context { verify_client = "optional", ca = { CA, helper.other_ca.certificate } }
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
  end)
end)

it("what is refused leaves nothing in OpenSSL's queue", function()
  for _ = 1, 3 do
    tls.context { role = "server", certificate = { data = "junk" }, key = LEAF.key }
    tls.context { role = "server", certificate = LEAF.certificate, key = { data = "\48\3junk" } }
    tls.context { role = "server", certificate = LEAF.certificate, key = ENCRYPTED, password = "wrong" }
    tls.context { ca = { data = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" } }
  end
  local a, b = helper.pair()
  b:close()
  local ok, err = a:connect()
  assert.is_nil(ok)
  assert.is_true(err.code == "truncated" or err.code == "system", err.code) -- it may be that nothing could be sent
  for _, entry in ipairs(err.queue) do assert.is_nil(entry.text:find("PEM"), entry.text) end
end)
