local compat = require "cotls.compat"
local bytes = require "spec.bytes"
local helper = require "spec.helper"
local hello = require "spec.client_hello"
local tls = require "cotls"

local function list_of(text, base)
  local list = {}
  for word in text:gmatch("%x+") do list[#list + 1] = tonumber(word, base) end
  return list
end

-- Chrome to googleapis.com: from tls-sni.pcapng of FoxIO's JA4 tests.
local CHROME = bytes.of_hex(table.concat {
  "010001fc03030f9e38acb9a54a7c6e00e29a70ac2feee180ff76d7f25dca84932a66a42d1e5a20bc58b92f865e6b9aa4a6371cadcb0afe1da1",
  "c0f705209a11d52357f56d5dd9620020aaaa130113021303c02bc02fc02cc030cca9cca8c013c014009c009d002f0035010001939a9a0000ff",
  "010001000033002b00290a0a000100001d0020cf55af2603e92f59eb321779706a18fa6b96b16c16404c2264ed687a59401878002d00020101",
  "000500050100000000446900050003026832000d00120010040308040401050308050501080606010010000e000c02683208687474702f312e",
  "3100230000001b0003020002002b0007060a0a0304030300000022002000001d636c69656e7473657276696365732e676f6f676c6561706973",
  "2e636f6d00120000000a000a00080a0a001d0017001800170000000b000201006a6a000100001500ba", ("00"):rep(186),
})
-- TLS 1.0 with a name and no other extension: from socks-https-example.pcap, there too.
local OLD = bytes.of_hex(table.concat {
  "0100006f0301529cbff829e8f23edf4bb09e1feaadd0131b7bc56eab3d7567b17e0374bd6b7500002e00390038003500160013000a00330032",
  "002f009a00990096000500040015001200090014001100080006000300ff0100001800000014001200000f7777772e6578616d706c652e636f",
  "6d",
})

describe("parse_client_hello", function()
  it("tells what Chrome says", function()
    local got = assert(tls.parse_client_hello(CHROME))
    assert.equal("clientservices.googleapis.com", got.server_name)
    assert.same({ "h2", "http/1.1" }, got.alpn)
    assert.same({ "0x0a0a", "TLSv1.3", "TLSv1.2" }, got.versions)
    assert.equal(16, #got.ciphers)
    assert.same({ "0xaaaa", "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256",
      "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256" }, compat.move(got.ciphers, 1, 5, 1, {}))
    assert.same({ "0x0a0a", "x25519", "secp256r1", "secp384r1" }, got.groups)
    assert.same({ "ecdsa_secp256r1_sha256", "rsa_pss_rsae_sha256", "rsa_pkcs1_sha256", "ecdsa_secp384r1_sha384",
      "rsa_pss_rsae_sha384", "rsa_pkcs1_sha384", "rsa_pss_rsae_sha512", "rsa_pkcs1_sha512" }, got.signature_algorithms)
    assert.equal(0x0303, got.legacy_version)
    assert.equal(CHROME:sub(7, 38), got.random)
    assert.equal(CHROME:sub(40, 71), got.session_id)
    assert.same({ 0x9a9a, 0xff01, 51, 45, 5, 17513, 13, 16, 35, 27, 43, 0, 18, 10, 23, 11, 0x6a6a, 21 },
      got.extension_types)
    assert.same({ "", "\0", "\2\0\2", "\0\3\2h2", ("\0"):rep(186) }, { got.extensions[0x9a9a], got.extensions[0xff01],
      got.extensions[27], got.extensions[17513], got.extensions[21] })
  end)

  it("tells the one version of a client that does not list them", function()
    local got = assert(tls.parse_client_hello(OLD))
    assert.same({ "TLSv1" }, got.versions)
    assert.equal("www.example.com", got.server_name)
    assert.same({}, got.alpn)
    assert.same({}, got.groups)
    assert.same({}, got.signature_algorithms)
    assert.equal("TLS_EMPTY_RENEGOTIATION_INFO_SCSV", got.ciphers[23])
    assert.same({ "SSLv3" }, tls.parse_client_hello(hello.build { version = 0x0300 }).versions)
    assert.same({ "0x7f1c", "0xfefd" }, tls.parse_client_hello(hello.build {
      extensions = { { type = 43, content = hello.list(1, { 0x7f1c, 0xfefd }) } },
    }).versions)
  end)

  it("has a name for each group and signature algorithm of OpenSSL's, the one that connections tell", function()
    local client = helper.client_context { groups = "P-256:P-384:P-521:X25519:X448:ffdhe2048" }
    local a, b = helper.socketpair()
    local conn = assert(client:wrap(a, { server_name = "localhost", timeout = 0 }))
    assert.equal("want_read", helper.code_of(conn:connect()))
    local got = assert(tls.parse_client_hello(assert(helper.read_fd(b, 65536))))
    conn:close()
    helper.close_fd(b)
    assert.same({ "secp256r1", "secp384r1", "secp521r1", "x25519", "x448", "ffdhe2048" }, got.groups)
    for _, name in ipairs(got.signature_algorithms) do assert.is_nil(name:find("0x", 1, true), name) end
    assert.is_truthy(#got.signature_algorithms > 10)
  end)

  it("has nothing of a list that is malformed but its bytes", function()
    for _, one in ipairs {
      { 0, "server_name", nil, hello.protocols("x"), "\0\0", "\0\3\0\0\0", "\0\6\0\0\3a\0b", "\0\4\1\0\1a",
        "\0\4\0\0\1ab", "\0\8\0\0\1a\0\0\1b", "\0\4\0\0\2a" },
      { 16, "alpn", {}, "", "\0\0", hello.protocols("", "h2"), hello.protocols("h2", ""), hello.protocols("h2") .. "x",
        hello.protocols("h2"):sub(1, -2), "\0\3\3h2", "\0\4\2h2\1" },
      { 10, "groups", {}, "", "\0", "\0\0", "\0\2\0", "\0\3\0\23\0", "\0\2\0\23\0", "\0\4\0\23" },
      { 13, "signature_algorithms", {}, "\0\1\4", "\0\3\4\3\4" },
      { 43, "versions", {}, "", "\0", "\1\3", "\3\3\4\3", "\2\3\4\3" },
    } do
      local type, field, expected = compat.unpack(one, 1, 3)
      for i = 4, #one do
        local got = assert(tls.parse_client_hello(hello.build { extensions = { { type = type, content = one[i] } } }))
        assert.same({ expected, one[i] }, { got[field], got.extensions[type] })
      end
    end
    local odd = hello.build { ciphers = { 0x1301 } }:gsub("%z\2\019\1\1%z$", "\0\3\019\1\019\1\0")
    odd = bytes.pack(">BI3", 1, #odd - 4) .. odd:sub(5)
    assert.same({}, assert(tls.parse_client_hello(odd)).ciphers)
  end)

  it("takes records, however the message is divided", function()
    local whole = tls.parse_client_hello(CHROME)
    for _, width in ipairs { 1, 2, 3, 4, 5, 100, #CHROME - 1, #CHROME } do
      assert.same(whole, tls.parse_client_hello(hello.record(CHROME, width)))
    end
    assert.same(whole, tls.parse_client_hello(CHROME .. "what follows"))
    assert.same(whole, tls.parse_client_hello(hello.record(CHROME) .. "\23\3\3\0\1x"))
    assert.same(whole, tls.parse_client_hello(hello.record(CHROME .. "\0\0\0\0")))
  end)

  it("asks for more while it is not all there, and never once it is", function()
    for _, given in ipairs { CHROME, hello.record(CHROME), hello.record(CHROME, 50) } do
      for n = 0, #given - 1 do
        assert.equal("want_read", helper.code_of(tls.parse_client_hello(given:sub(1, n))), n)
      end
      assert.truthy(tls.parse_client_hello(given))
    end
  end)

  it("refuses what is none", function()
    local function reason(given)
      local got, err = tls.parse_client_hello(given)
      assert.is_nil(got)
      assert.equal("tls", err.code, tostring(err))
      assert.equal("parse_client_hello", err.operation)
      return err.reason
    end
    for _, wrong in ipairs { "GET / HTTP/1.1\r\n", "\2\0\0\0", "\22\2\0\0\4", "\22\3\1\0\0", "\22\3\1\64\1",
      "\1\2\1\69", "\23\3\3\0\1x", "\21\3\3\0\2\2\40",
      hello.record(CHROME, 50):sub(1, 55) .. "\23\3\3\0\1x", "\128\46\1\3\1" } do
      assert.equal("not a ClientHello", reason(wrong))
    end
    -- Its own length is right; something within is not.
    local function sized(body) return bytes.pack(">BI3", 1, #body) .. body end
    local good = hello.build { session_id = "12", ciphers = { 0x1301 }, extensions = { { type = 23, content = "" } } }
    assert.truthy(tls.parse_client_hello(good))
    local body = good:sub(5)
    for n = 0, #body - 1 do
      if n ~= #body - 6 then -- whole, but for its extensions
        assert.equal("the ClientHello is malformed", reason(sized(body:sub(1, n))))
      end
    end
    assert.truthy(tls.parse_client_hello(sized(body:sub(1, -7))))
    assert.equal("the ClientHello is malformed", reason(sized(body .. "x")))
    assert.equal("the ClientHello is malformed", reason(hello.build { session_id = ("s"):rep(33) }))
  end)

  it("refuses an extension that comes twice, of whatever type", function()
    for _, type in ipairs { 0, 16, 0x0a0a, 12345 } do
      local got, err = tls.parse_client_hello(hello.build { extensions = {
        { type = type, content = "" }, { type = 23, content = "" }, { type = type, content = "x" },
      } })
      assert.is_nil(got)
      assert.same({ "tls", "the ClientHello has an extension twice" }, { err.code, err.reason })
    end
  end)

  it("takes a string only", function()
    assert.error_matches(function() tls.parse_client_hello(12) end, "tls.parse_client_hello: a string expected")
  end)
end)

describe("JA3", function()
  local function of(fields)
    local got = assert(tls.parse_client_hello(hello.build(fields)))
    return got.ja3_text, got.ja3
  end

  -- The two of salesforce/ja3's README.
  it("is as published", function()
    local text, hash = of { version = 769, ciphers = { 47, 53, 5, 10, 49161, 49162, 49171, 49172, 50, 56, 19, 4 },
      extensions = {
        { type = 0, content = "\0\14\0\0\11example.com" },
        { type = 10, content = hello.list(2, { 23, 24, 25 }) }, { type = 11, content = "\1\0" },
      } }
    assert.equal("769,47-53-5-10-49161-49162-49171-49172-50-56-19-4,0-10-11,23-24-25,0", text)
    assert.equal("ada70206e40642a3e4461f35503241d5", hash)
    text, hash = of { version = 769, ciphers = { 4, 5, 10, 9, 100, 98, 3, 6, 19, 18, 99 } }
    assert.equal("769,4-5-10-9-100-98-3-6-19-18-99,,,", text)
    assert.equal("de350869b8c85de67a350c8d186f11e6", hash)
  end)

  it("is what the openssl program makes of it", function()
    for _, message in ipairs { CHROME, OLD } do
      local got = tls.parse_client_hello(message)
      assert.same({ hello.ja3(hello.read(message)) }, { got.ja3_text, got.ja3 })
    end
  end)
end)

describe("JA4", function()
  it("is as published, of the captures", function()
    assert.equal("t13d1516h2_8daaf6152771_e5627efa2ab1", tls.parse_client_hello(CHROME).ja4)
    assert.equal("t10d230100_6a57a6f57151_000000000000", tls.parse_client_hello(OLD).ja4)
  end)

  -- The lists of JA4.md, in its order and with GREASE put in between.
  local CIPHERS = list_of("3a3a 1301,1302,1303,c02b,c02f,c02c,c030,cca9,cca8,c013,c014,009c,009d,002f,0035 fafa", 16)
  local EXTENSIONS = list_of("001b,0000,0033,0010,4469,0017,002d,0a0a,000d,0005,0023,0012,002b,ff01,000b,000a,0015", 16)
  local SCHEMES = list_of("0403,0804,0401,4a4a,0503,0805,0501,0806,0601", 16)

  local function of(changes)
    local contents = { [16] = hello.protocols("h2"), [43] = hello.list(1, { 0xbaba, 0x0304, 0x0303 }),
      [13] = hello.list(2, SCHEMES) }
    for type, content in pairs(changes) do contents[type] = content end
    local list = {}
    for _, type in ipairs(EXTENSIONS) do
      if contents[type] ~= false then list[#list + 1] = { type = type, content = contents[type] or "" } end
    end
    return assert(tls.parse_client_hello(hello.build { ciphers = CIPHERS, extensions = list })).ja4
  end

  it("is as published, of the definition", function()
    assert.equal("t13d1516h2_8daaf6152771_e5627efa2ab1", of {})
    assert.equal("t13d1516h2_8daaf6152771_6d807ffa2a79", of { [13] = "" })
    assert.equal("t13i1515h2_8daaf6152771_e5627efa2ab1", of { [0] = false })
    assert.equal("t12d151500_8daaf6152771", of { [16] = false, [43] = hello.list(1, { 0x0303, 0x0302 }) }:sub(1, 23))
  end)

  it("has the ends of the first protocol's name, or of its digits", function()
    for name, expected in pairs {
      ["h2"] = "h2", ["http/1.1"] = "h1", ["x"] = "xx", ["\171"] = "ab", ["\171\205"] = "ad", ["0\171"] = "3b",
      ["01\171\205"] = "3d", ["0\171\2051"] = "01", ["\0"] = "00", ["a-"] = "6d",
    } do
      assert.equal("t13d1516" .. expected, of { [16] = hello.protocols(name, "other") }:sub(1, 10))
    end
    assert.equal("t13d151600", of { [16] = hello.protocols("", "h2") }:sub(1, 10))
  end)

  it("has a version of two characters, and 00 for what it does not know", function()
    for number, expected in pairs { [0x0304] = "13", [0x0303] = "12", [0x0302] = "11", [0x0301] = "10", [0x0300] = "s3",
      [2] = "s2", [0x7f1c] = "00", [0x0305] = "00" } do
      assert.equal("t" .. expected, of { [43] = hello.list(1, { number }) }:sub(1, 3))
      assert.equal("t" .. expected, assert(tls.parse_client_hello(hello.build { version = number })).ja4:sub(1, 3))
    end
    assert.equal("t00", of { [43] = "x" }:sub(1, 3))
  end)

  it("counts to 99, and has zeros for what is not there", function()
    local ciphers, extensions = {}, {}
    for i = 1, 150 do ciphers[i], extensions[i] = i, { type = 1000 + i, content = "" } end
    local got = tls.parse_client_hello(hello.build { ciphers = ciphers, extensions = extensions })
    assert.equal("t12i999900", got.ja4:sub(1, 10))
    assert.equal(hello.ja4(hello.read(hello.build { ciphers = ciphers, extensions = extensions })), got.ja4)
    assert.equal("t12i000000_000000000000_000000000000", tls.parse_client_hello(hello.build {}).ja4)
  end)
end)

-- ---- fuzz ----

-- The same numbers wherever the spec runs.
local random = helper.random(20260807)

local function some_bytes(n)
  local parts = {}
  for i = 1, n do parts[i] = string.char(random(256) - 1) end
  return table.concat(parts)
end

-- What a number is called: where it stands alone.
local names = {}
local TYPES = { groups = { 10, 2 }, signature_algorithms = { 13, 2 }, versions = { 43, 1 } }
local function name_of(kind, number)
  local key = kind .. number
  if not names[key] then
    local where = TYPES[kind]
    local got = assert(tls.parse_client_hello(hello.build {
      ciphers = { number },
      extensions = where and { { type = where[1], content = hello.list(where[2], { number }) } },
    }))
    assert.equal(1, #got[kind])
    names[key] = got[kind][1]
    assert.truthy(names[key]:find("%a") and (names[key] == ("0x%04x"):format(number) or not names[key]:find("^0x")))
  end
  return names[key]
end

local function named(kind, list)
  local out = {}
  for i, number in ipairs(list) do out[i] = name_of(kind, number) end
  return out
end

-- All but the hashes, which take a program each.
local function assert_read(message, got)
  local said = hello.read(message)
  assert.same({
    server_name = said.server_name, alpn = said.alpn, legacy_version = said.legacy_version, random = said.random,
    session_id = said.session_id, extension_types = said.types, extensions = said.contents,
    ciphers = named("ciphers", said.ciphers), groups = named("groups", said.groups),
    versions = named("versions", said.versions), signature_algorithms = named("signature_algorithms", said.schemes),
    ja3 = got.ja3, ja3_text = hello.ja3_text(said), ja4 = got.ja4,
  }, got)
  assert.equal(hello.ja4_head(said), got.ja4:sub(1, 10))
  assert.matches("^%x+$", got.ja3)
  assert.matches("^%w+_%x%x%x%x%x%x%x%x%x%x%x%x_%x%x%x%x%x%x%x%x%x%x%x%x$", got.ja4)
end

-- A hello with as many extensions as may be, each changed in one way or another.
local KNOWN = { 0, 10, 11, 13, 16, 43 }
local SEEDS = {
  [0] = "\0\14\0\0\11example.com", [10] = hello.list(2, { 29, 23, 24, 0x0a0a, 0x11ec }), [11] = "\3\0\1\2",
  [13] = hello.list(2, { 0x0403, 0x0804, 0x0101 }), [16] = hello.protocols("h2", "http/1.1"),
  [43] = hello.list(1, { 0x0304, 0x0303, 0x1a1a }),
}

local CHANGES = {
  function(body) return body:sub(1, random(#body + 1) - 1) end,
  function(body) return body .. some_bytes(random(4)) end,
  function(body)
    local at = random(#body)
    return body:sub(1, at - 1) .. string.char(random(256) - 1) .. body:sub(at + 1)
  end,
  function(body)
    local at = random(math.min(#body, 6))
    return body:sub(1, at - 1) .. ("\0\1\2\3\127\128\254\255"):sub(random(8)):sub(1, 1) .. body:sub(at + 1)
  end,
  function() return some_bytes(random(24) - 1) end,
  function(body) return body end,
}

local function mutant()
  local extensions = {}
  for _, type in ipairs(KNOWN) do
    local body = SEEDS[type]
    for _ = 1, random(2) do
      if #body > 0 then body = CHANGES[random(#CHANGES)](body) end
    end
    if random(10) > 1 then extensions[#extensions + 1] = { type = type, content = body } end
  end
  table.insert(extensions, random(#extensions + 1), { type = 0x3a3a, content = some_bytes(random(3) - 1) })
  return hello.build { version = 0x0300 + random(4), random = some_bytes(32), session_id = some_bytes(random(33) - 1),
    ciphers = list_of("1301 1302 c02f 00ff 9a9a 002f", 16), extensions = extensions }
end

describe("a fuzzed ClientHello", function()
  local ROUNDS = math.floor(4000 / helper.slow)

  it("whose extensions are malformed is read as the definitions say, or not at all", function()
    for _ = 1, ROUNDS do
      local message = mutant()
      assert_read(message, assert(tls.parse_client_hello(message)))
    end
  end)

  it("of which any bytes are changed comes out whole, or is refused", function()
    local taken, refused = 0, 0
    for _ = 1, ROUNDS do
      local message = random(2) == 1 and CHROME or mutant()
      for _ = 1, random(3) do
        local at = random(#message)
        message = message:sub(1, at - 1) .. string.char(random(256) - 1) .. message:sub(at + 1)
      end
      if random(4) == 1 then message = message:sub(1, random(#message)) end
      local given = random(2) == 1 and message or hello.record(message, random(#message + 10))
      local got, err = tls.parse_client_hello(given)
      if got then
        taken = taken + 1
        assert_read(message:sub(1, 4 + bytes.unpack(">I3", message, 2)), got)
      else
        refused = refused + 1
        assert.truthy(({ tls = true, want_read = true })[err.code], tostring(err))
      end
    end
    assert.truthy(taken > ROUNDS / 5 and refused > ROUNDS / 5, taken .. " " .. refused)
  end)

  it("that is nothing but noise is refused, or asks for more", function()
    for _ = 1, ROUNDS do
      local given = ({ "", "\1\0\0", "\1\0\0\60\3\3", "\22\3\1\0\70\1\0" })[random(4)] .. some_bytes(random(80) - 1)
      local got, err = tls.parse_client_hello(given)
      if not got then assert.truthy(({ tls = true, want_read = true })[err.code], tostring(err)) end
    end
  end)

  it("as large as may be is read", function()
    local ciphers = {}
    for i = 1, 32767 do ciphers[i] = i end
    local message = hello.build { ciphers = ciphers, extensions = { { type = 21, content = ("x"):rep(65000) } } }
    local got = assert(tls.parse_client_hello(hello.record(message)))
    assert.equal(32767, #got.ciphers)
    assert.equal(hello.ja4(hello.read(message)), got.ja4)

  end)
end)
