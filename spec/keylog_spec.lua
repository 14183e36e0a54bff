local bytes = require "spec.bytes"
local core = require "cotls.core"
local helper = require "spec.helper"
local tls = require "cotls"
local visit = require "spec.visit"
local uv = require "luv"

local LABELS = {
  ["1.2"] = "CLIENT_RANDOM",
  ["1.3"] = "CLIENT_HANDSHAKE_TRAFFIC_SECRET CLIENT_TRAFFIC_SECRET_0 EXPORTER_SECRET SERVER_HANDSHAKE_TRAFFIC_SECRET "
    .. "SERVER_TRAFFIC_SECRET_0",
}

local read, hex, bytes_of = helper.read_file, bytes.hex, bytes.of_hex

local function sorted_lines(text)
  local lines = {}
  for line in text:gmatch("([^\n]*)\n") do lines[#lines + 1] = line end
  table.sort(lines)
  assert.equal(#text, #table.concat(lines) + #lines, "the last line has no end")
  return lines
end

-- The lines by label, each of which must be of the format, and of this connection where its random is given.
local function secrets(lines, random)
  local all = {}
  for _, line in ipairs(lines) do
    local label, whose, secret = line:match("^([A-Z_0-9]+) (%x+) (%x+)$")
    assert.truthy(label, line)
    assert.equal(64, #whose)
    assert.truthy(#secret == 96 or #secret == 64, line)
    assert.equal(line:lower():sub(#label + 1), line:sub(#label + 1))
    if random then assert.equal(hex(random), whose) end
    all[label] = bytes_of(secret)
  end
  return all
end

local function labels(all)
  local names = {}
  for name in pairs(all) do names[#names + 1] = name end
  table.sort(names)
  return table.concat(names, " ")
end

for _, version in ipairs { "1.2", "1.3" } do
  local only = { min_version = version, max_version = version }

  local function with(options)
    for name, value in pairs(only) do options[name] = value end
    return options
  end

  local function handshaken(client, server)
    return helper.handshaken(nil, nil, nil, { client = helper.client_context(with(client)),
      server = helper.server_context(with(server)) })
  end

  describe("the secrets of TLS " .. version, function()
    it("are the same on both sides, in the file and for the hook", function()
      local folder = helper.temp_dir()
      local told = { client = {}, server = {} }
      local function note(side)
        return function(conn, line)
          assert.equal("cotls.connection", tostring(conn):match("^%S+"))
          table.insert(told[side], line .. "\n")
          coroutine.yield()
        end
      end
      local a, b = handshaken({ keylog = folder .. "/client", on_keylog = note "client" },
        { keylog = folder .. "/server", on_keylog = note "server" })
      local client, server = read(folder .. "/client"), read(folder .. "/server")
      assert.equal(client, table.concat(told.client)) -- the order, too
      assert.equal(server, table.concat(told.server))
      assert.same(sorted_lines(client), sorted_lines(server))
      assert.equal(LABELS[version], labels(secrets(sorted_lines(client), a:client_random())))
      a:close()
      b:close()
    end)

    -- HKDF-Expand-Label, RFC 8446 section 7.1
    local function expand(digest, secret, label, context, length)
      local info = bytes.pack(">I2s1s1", length, "tls13 " .. label, context)
      return bytes_of(helper.openssl { "kdf", "-keylen", tostring(length), "-kdfopt", "digest:" .. digest, "-kdfopt",
        "mode:EXPAND_ONLY", "-kdfopt", "hexkey:" .. hex(secret), "-kdfopt", "hexinfo:" .. hex(info), "HKDF" })
    end

    -- RFC 5246 section 5
    local function prf(digest, secret, label, seed, length)
      return bytes_of(helper.openssl { "kdf", "-keylen", tostring(length), "-kdfopt", "digest:" .. digest, "-kdfopt",
        "hexsecret:" .. hex(secret), "-kdfopt", "hexseed:" .. hex(label .. seed), "TLS1-PRF" })
    end

    local function digest_of(text)
      return bytes_of(helper.openssl({ "dgst", "-sha256", "-r" }, text):match("^%x+"))
    end

    -- The client's key and IV for application data with ChaCha20.
    local function key_and_iv(all, a)
      if version == "1.3" then
        local secret = all.CLIENT_TRAFFIC_SECRET_0
        return expand("SHA256", secret, "key", "", 32), expand("SHA256", secret, "iv", "", 12)
      end
      local block = prf("SHA256", all.CLIENT_RANDOM, "key expansion", a:server_random() .. a:client_random(), 88)
      return block:sub(1, 32), block:sub(65, 76)
    end

    it("decrypt what was recorded, and give the exported keys", function()
      local told = {}
      local suites = version == "1.3" and { ciphersuites = "TLS_CHACHA20_POLY1305_SHA256" }
        or { ciphers = "ECDHE-ECDSA-CHACHA20-POLY1305" }
      suites.on_keylog = function(_, line) told[#told + 1] = line end
      local near, far = helper.socketpair()
      local a = assert(helper.client_context(with(suites)):wrap(near, { server_name = "localhost" }))
      local b = assert(helper.server_context(only):wrap(far))
      helper.shake(a, b)
      local all = secrets(told, a:client_random())
      assert(a:write("attack at dawn"))
      local record = helper.read_fd(far)
      assert.equal("\23\3\3", record:sub(1, 3))
      assert.equal(#record, 5 + bytes.unpack(">I2", record, 4))
      local key, iv = key_and_iv(all, a)
      local sequence = version == "1.3" and 0 or 1 -- in TLS 1.2 Finished was the first
      iv = bytes.flip(iv, 12, sequence)
      local plain = helper.openssl({ "enc", "-d", "-chacha20", "-K", hex(key), "-iv", "01000000" .. hex(iv) },
        record:sub(6, -17))
      assert.equal(version == "1.3" and "attack at dawn\23" or "attack at dawn", plain)

      local exported = assert(a:export_keying_material("EXPORTER-cotls", 32, "here"))
      if version == "1.3" then -- section 7.5
        local secret = expand("SHA256", all.EXPORTER_SECRET, "EXPORTER-cotls", digest_of "", 32)
        assert.equal(hex(expand("SHA256", secret, "exporter", digest_of "here", 32)), hex(exported))
      else -- RFC 5705 section 4
        local seed = a:client_random() .. a:server_random() .. bytes.pack(">s2", "here")
        assert.equal(hex(prf("SHA256", all.CLIENT_RANDOM, "EXPORTER-cotls", seed, 32)), hex(exported))
      end
      a:close()
      b:close()
    end)

    -- What another program's connection to a server with keylog comes to: its lines, ours.
    local function beside(argv, env)
      local folder = helper.temp_dir()
      local ctx = helper.server_context(with { keylog = folder .. "/ours" })
      helper.in_loop(function()
        local luv = require "cotls.luv"
        local listener = assert(tls.listen("127.0.0.1", 0, { context = ctx }))
        luv.spawn(function()
          local conn = listener()
          assert(conn:accept())
          conn:read("a")
          conn:close()
        end)
        local words = { FOLDER = folder, PORT = tostring(listener:port()) }
        for i, word in ipairs(argv) do argv[i] = word:gsub("%u%u%u%u+", words) end
        for name, word in pairs(env or {}) do env[name] = word:gsub("%u%u%u%u+", words) end
        local status, _, err = helper.run(argv, "", { env = env })
        assert.equal(0, status, err)
        listener:close()
      end)
      return sorted_lines(read(folder .. "/theirs")), sorted_lines(read(folder .. "/ours"))
    end

    it("are those that openssl s_client writes", function()
      local theirs, ours = beside { "openssl", "s_client", "-keylogfile", "FOLDER/theirs", "-connect",
        "127.0.0.1:PORT" }
      if theirs[1]:find("^#") then table.remove(theirs, 1) end
      assert.same(theirs, ours)
      assert.equal(LABELS[version], labels(secrets(ours)))
    end)

    it("are those that gnutls-cli writes", function()
      local theirs, ours = beside({ "gnutls-cli", "--insecure", "--port", "PORT", "127.0.0.1" },
        { SSLKEYLOGFILE = "FOLDER/theirs" })
      local known = {}
      for _, line in ipairs(theirs) do known[line:lower()] = true end
      for _, line in ipairs(ours) do
        -- GnuTLS writes no EXPORTER_SECRET of its own name in all versions
        if not line:find("^EXPORTER_SECRET") then assert.is_true(known[line:lower()], line) end
      end
    end)

    it("go into the file of the door where the server name chooses another context", function()
      local folder = helper.temp_dir()
      local inner = helper.server_context(with { keylog = folder .. "/inner",
        on_keylog = function() error "the other's" end })
      local count = 0
      handshaken({}, { names = { localhost = inner }, keylog = folder .. "/door",
        on_keylog = function() count = count + 1 end })
      assert.equal(LABELS[version], labels(secrets(sorted_lines(read(folder .. "/door")))))
      assert.equal(select(2, LABELS[version]:gsub("%S+", "")), count)
      assert.equal("", read(folder .. "/inner"))
    end)

    it("are told again in no resumption's place: each connection has its own", function()
      local path = helper.temp_dir() .. "/keys"
      local client = helper.client_context(only)
      local server = helper.server_context(with { keylog = path })
      local session = visit.session(client, server)
      local first = #read(path)
      assert.is_true(visit.resumed(client, server, { session = session }))
      assert.truthy(#read(path) > first)
      secrets(sorted_lines(read(path)))
    end)

    it("refuse the operation where the hook fails, and wait where it waits", function()
      local ctx = helper.client_context(with { on_keylog = function() error({ "no" }) end })
      local a, b = helper.pair(nil, nil, nil, { client = ctx, server = helper.server_context(only) })
      local results = helper.together { function() return a:connect() end, function() return b:accept() end }
      local err = results[1][2]
      assert.equal("hook", err.code)
      assert.equal("on_keylog failed: table", err.reason)
      assert.same({ "no" }, err.cause.error)
      b:close()
    end)
  end)
end

describe("early data's secret", function()
  it("is there on both sides", function()
    local folder = helper.temp_dir()
    local client = helper.client_context { min_version = "1.3", keylog = folder .. "/client" }
    local server = helper.server_context { max_early_data = 100, keylog = folder .. "/server" }
    local session = visit.session(client, server)
    local got = visit.over(client, server, { session = session, early_data = "early", read_early = 100 })
    assert.equal("accepted", got.status)
    for _, side in ipairs { "/client", "/server" } do
      local all = secrets(sorted_lines(read(folder .. side)))
      assert.truthy(all.CLIENT_EARLY_TRAFFIC_SECRET, side)
    end
    assert.same(sorted_lines(read(folder .. "/client")), sorted_lines(read(folder .. "/server")))
  end)
end)

describe("the file of keylog", function()
  local function meet(client, server)
    local a, b = helper.handshaken(nil, nil, nil, { client = client, server = server })
    a:close()
    b:close()
  end

  it("is appended to, shared, and made for its owner alone", function()
    local path = helper.temp_dir() .. "/keys"
    local client = helper.client_context { keylog = path, min_version = "1.3" }
    assert.equal(tonumber("100600", 8), assert(uv.fs_stat(path)).mode)
    local handle = assert(io.open(path, "w"))
    handle:write("# what was there\n")
    handle:close()
    local server = helper.server_context { keylog = path }
    meet(client, server)
    meet(client, server)
    local text = read(path)
    assert.equal("# what was there\n", text:match("^[^\n]*\n"))
    local lines, seen = sorted_lines(text), {}
    assert.equal(21, #lines)
    for i = 2, #lines do seen[lines[i]] = (seen[lines[i]] or 0) + 1 end
    for line, count in pairs(seen) do assert.equal(2, count, line) end
  end)

  it("is closed with the context, and no program that is started has it", function()
    local folder = helper.temp_dir()
    local before = helper.settled_fds()
    do
      local ctx = helper.client_context { keylog = folder .. "/keys" }
      assert.equal(before + 1, helper.count_fds())
      local pipe = io.popen("ls -l /proc/self/fd")
      assert.is_nil(pipe:read("*a"):find(folder, 1, true))
      pipe:close()
      assert.equal("client", core.context_role(ctx))
    end
    collectgarbage()
    collectgarbage()
    assert.equal(before, helper.count_fds())
    -- nor does a context keep it that is refused later
    assert.is_nil(tls.context { keylog = folder .. "/keys", verify_client = "wrong" })
    assert.is_nil(tls.context { role = "server", keylog = folder .. "/keys", names = { ["*"] = tls.context() } })
    collectgarbage()
    collectgarbage()
    assert.equal(before, helper.count_fds())
  end)

  it("that is full harms no handshake", function()
    meet(helper.client_context { keylog = "/dev/full" }, helper.server_context())
  end)

  it("is refused by its name where it can't be opened", function()
    local folder = helper.temp_dir()
    local pipe = folder .. "/pipe"
    assert(os.execute("mkfifo '" .. pipe .. "'"))
    assert.is_nil(tls.context { keylog = pipe }) -- nobody reads
    local reader = assert(uv.fs_open(pipe, "r+", 0))
    finally(function() uv.fs_close(reader) end)
    for path, reason in pairs {
      [pipe] = "a pipe, not a file", [folder] = "Is a directory", [""] = "No such file or directory",
      [folder .. "/none/keys"] = "No such file or directory", ["a\0b"] = "a path has no NUL byte",
    } do
      local ctx, err = tls.context { keylog = path }
      assert.is_nil(ctx)
      assert.equal("config", err.code)
      assert.equal("keylog: ", tostring(err):sub(1, 8))
      assert.truthy(err.reason:find(reason, 1, true), err.reason)
    end
    assert.has_error(function() tls.context { keylog = 1 } end,
      "tls.context: option 'keylog': string expected, got 1")
  end)
end)

describe('keylog = "env"', function()
  local SCRIPT = helper.temp_file [[
local tls = require "cotls"
local ctx, err = tls.context { keylog = "env" }
print(ctx and "good" or err)
]]

  local function try(value)
    local folder = helper.temp_dir()
    local status, out, err = helper.run({ helper.lua, SCRIPT }, nil,
      { env = { SSLKEYLOGFILE = value and value:gsub("FOLDER", folder) }, cwd = folder })
    assert.equal(0, status, err)
    return out, folder
  end

  it("is the file that the environment names", function()
    local out, folder = try "FOLDER/keys"
    assert.equal("good\n", out)
    assert.equal("", read(folder .. "/keys"))
    assert.equal("keylog: /nowhere/keys: No such file or directory\n", (try "/nowhere/keys"))
  end)

  it("is nothing where it names none", function()
    for _, value in ipairs { false, "" } do
      local out, folder = try(value)
      assert.equal("good\n", out)
      assert.is_nil(uv.fs_stat(folder .. "/env"))
    end
  end)

  it("is not asked otherwise", function()
    local script = helper.temp_file 'assert(require "cotls".context {})'
    local folder = helper.temp_dir()
    helper.run({ helper.lua, script }, nil, { env = { SSLKEYLOGFILE = folder .. "/keys" } })
    assert.is_nil(uv.fs_stat(folder .. "/keys"))
  end)
end)
