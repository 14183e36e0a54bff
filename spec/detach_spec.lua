-- conn:detach: the transport comes back, with what was received and is not TLS's.

local tls = require "cotls"
local luv = require "cotls.luv"
local helper = require "spec.helper"
local streams = require "spec.streams"
local uv = require "luv"

local code_of = helper.code_of

local function refused(conn, code, pattern)
  local ok, err = conn:detach()
  assert.equal(code, code_of(ok, err))
  assert.equal("detach", err.operation)
  assert.matches(pattern, tostring(err))
end

-- Both ends after shutdown, which has gone both ways; the server has written `tail` without TLS.
local function ended(transport, version, tail)
  local client, server, pump = helper.handshaken(transport, nil, nil, helper.contexts(version))
  local plain
  helper.together({
    function()
      assert(client:write("question"))
      assert.equal("answer", client:recv())
      assert(client:shutdown())
    end,
    function()
      assert.equal("question", server:recv())
      assert(server:write("answer"))
      assert(server:shutdown())
      plain = assert(server:detach())
      tail(plain)
    end,
  }, pump)
  return client, plain, pump
end

describe("detach after the peer's close_notify", function()
  for _, version in ipairs { "1.2", "1.3" } do
    it("gives a descriptor and what follows, on TLS " .. version, function()
      for _, text in ipairs { "", "250 ready\r\n" } do
        -- one write, so that it arrives with the close_notify
        local client, plain = ended(nil, version, function(fd)
          if text ~= "" then assert(helper.write_fd(fd, text)) end
        end)
        local fd, rest = client:detach()
        assert.equal("number", type(fd))
        assert.matches("closed", tostring(client), 1, true)
        assert.equal(text, rest .. (helper.read_fd(fd) or ""))
        assert(helper.write_fd(fd, "still there"))
        assert.equal("still there", helper.read_fd(plain))
        client:close()
        client = nil -- luacheck: ignore
        collectgarbage()
        assert(helper.write_fd(fd, "after the collector too"))
        helper.close_fd(fd)
        helper.close_fd(plain)
      end
    end)
  end

  it("what came with the close_notify is given, not lost", function()
    local a, b = streams.pipes(65536)
    local contexts = helper.contexts()
    local client = assert(contexts.client:wrap(a, { server_name = "localhost" }))
    local server = assert(contexts.server:wrap(b))
    helper.shake(client, server)
    assert(server:shutdown("write"))
    b.to[b.to.last] = b.to[b.to.last] .. "220 plain\r\n" -- into the string that holds it
    b.to.length = b.to.length + 11
    assert.is_nil(client:recv())
    local transport, rest = client:detach()
    assert.equal(a, transport)
    assert.equal("220 plain\r\n", rest)
    assert.is_false(a.from.closed or false)
    assert(a:write("x"))
  end)

  it("works over every transport", function()
    for _, transport in ipairs(helper.transports_in_use()) do
      local client, plain, pump = ended(transport, nil, function() end)
      local back, rest = client:detach()
      assert.is_truthy(back)
      assert.equal("string", type(rest))
      for _, one in ipairs { back, plain } do
        if type(one) == "number" then
          helper.close_fd(one)
        elseif one.close then
          one:close()
        end
      end
      if pump then pump() end
    end
  end)

  it("is for who has read all, and sent all", function()
    local client, server = helper.handshaken()
    refused(client, "tls", "after the peer's close_notify")
    helper.together {
      function()
        assert(server:write("data"))
        assert(server:shutdown("write"))
      end,
      function() assert(client:shutdown()) end,
    }
    refused(client, "tls", "bytes to be read first")
    assert.equal("data", client:read("a"))
    local fd = assert(client:detach())
    helper.close_fd(fd)
    refused(client, "closed", "closed")
  end)
end)

describe("detach before the handshake", function()
  it("gives back what was wrapped", function()
    local a, b = helper.socketpair()
    local conn = assert(helper.contexts().server:wrap(a))
    assert.same({ a, "" }, { conn:detach() })
    conn = assert(helper.contexts().server:wrap(a, { timeout = 0 }))
    assert.equal("want_read", code_of(conn:accept())) -- nobody has spoken yet
    assert.same({ a, "" }, { conn:detach() })
    conn = assert(helper.contexts().client:wrap(a, { timeout = 0, server_name = "localhost" }))
    assert.equal("want_read", code_of(conn:connect()))
    refused(conn, "tls", "before anything is read or sent")
    conn:close()
    helper.close_fd(b)
  end)

  it("not while an operation is under way", function()
    local a, b = helper.socketpair()
    local conn = assert(helper.contexts().server:wrap(a))
    local co = coroutine.create(function() return conn:accept() end)
    assert(coroutine.resume(co))
    refused(conn, "tls", "under way")
    conn:close()
    helper.close_fd(b)
  end)
end)

-- FTP, RFC 959: as much of it as curl needs to log in under AUTH TLS, and to go on in the clear after CCC (RFC 4217).
describe("a peer that turns to TLS and back", function()
  local Line = {}
  Line.__index = Line

  function Line:read()
    while not self.got:find("\n", 1, true) do
      local data, name = helper.read_fd(self.fd)
      if data == "" then return nil end
      if data then self.got = self.got .. data else
        assert(name == "EAGAIN", name)
        assert(luv.wait(self, "read", tls.now() + 5 * helper.slow))
      end
    end
    local line, rest = self.got:match("^([^\r\n]*)\r?\n(.*)$")
    self.got = rest
    return line
  end

  function Line:write(text) assert(helper.write_fd(self.fd, text)) end

  local function plain(fd, got)
    return setmetatable({ fd = fd, got = got, fileno = function() return fd end }, Line)
  end

  local ANSWERS = { USER = "331 password?", PASS = "230 hello", PBSZ = "200 ok", PROT = "200 ok", PWD = '257 "/"',
    NOOP = "200 nothing", TYPE = "200 ok", CWD = "250 ok", QUIT = "221 bye" }

  it("curl logs in by TLS and goes on without, after CCC", function()
    local log, how = {}, "plain"
    helper.in_loop(function()
      local listener = assert(uv.new_tcp())
      assert(listener:bind("127.0.0.1", 0))
      local port = listener:getsockname().port
      local accepted
      assert(listener:listen(1, function()
        accepted = uv.new_tcp()
        assert(listener:accept(accepted))
      end))
      luv.spawn(function()
        repeat luv.sleep(0.001) until accepted
        local fd = accepted:fileno()
        local stream = plain(fd, "")
        stream:write("220 ready\r\n")
        local line = stream:read()
        while line do
          local verb = line:match "^%a+"
          log[#log + 1] = how .. " " .. verb
          if verb == "AUTH" then
            stream:write("234 go ahead\r\n")
            luv.release(stream)
            stream, how = assert(helper.contexts().server:wrap(fd, { timeout = 5 * helper.slow })), "TLS"
            assert(stream:accept())
          elseif verb == "CCC" then
            assert(stream:write("200 in the clear\r\n"))
            assert(stream:shutdown())
            local back, rest = assert(stream:detach())
            stream, how = plain(back, rest), "plain"
          else
            stream:write((ANSWERS[verb] or "500 what?") .. "\r\n")
          end
          line = stream:read()
          if line and how == "TLS" then line = line:gsub("\r$", "") end
        end
        luv.release(stream)
        accepted:close()
        listener:close()
      end)
      local status, _, err = helper.run { "curl", "-sS", "--ssl-reqd", "--ftp-ssl-ccc", "--ftp-ssl-ccc-mode", "active",
        "--cacert", helper.temp_file(helper.ca.certificate), "--resolve", "localhost:" .. port .. ":127.0.0.1",
        "-I", "-Q", "NOOP", "ftp://user:secret@localhost:" .. port .. "/" }
      assert.equal("", err)
      assert.equal(0, status)
    end, 20)
    local all = table.concat(log, ", ")
    assert.matches("^plain AUTH, TLS USER, TLS PASS, TLS PBSZ, TLS PROT, TLS CCC, plain PWD", all)
    assert.matches("plain NOOP", all, 1, true)
  end)
end)
