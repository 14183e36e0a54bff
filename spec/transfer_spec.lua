-- SPDX-License-Identifier: MIT
-- Reading in Lua's file formats, recv, peek, pending, write, shutdown, and how a stream ends. What io does with a file
-- of the same bytes is the measure of the formats.

local compat = require "cotls.compat"
local tls = require "cotls"
local uv = require "luv"
local helper = require "spec.helper"

local code_of = helper.code_of

local noise = helper.noise

-- Results of reads, comparable: numbers by their exact text.
local function describe_results(got)
  local list = {}
  for i = 1, got.n do
    local value = got[i]
    if type(value) == "number" then value = compat.math_type(value) .. " " .. ("%a"):format(value) end
    list[i] = value == nil and "nil" or tostring(value):gsub("[%c\127-\255]", function(c)
      return ("\\%d"):format(c:byte())
    end) .. " " .. type(got[i])
  end
  return table.concat(list, " | ")
end

local function pieces(text, width)
  local list = {}
  for at = 1, #text, width do list[#list + 1] = text:sub(at, at + width - 1) end
  return list
end

-- Ends the stream without close_notify, by __close with an error.
local function cut_off(conn)
  getmetatable(conn).__close(conn, "cut")
end

local versions = { "1.2", "1.3" }

for _, transport in ipairs(helper.transports_in_use()) do
  for _, version in ipairs(versions) do
    describe(("TLS %s over %s"):format(version, transport.name), function()
      local contexts = helper.contexts(version)
      local truncated = transport.name == "TLS" and "system" or "truncated" -- there the connection below is

      local function make()
        return helper.handshaken(transport, nil, nil, contexts)
      end

      -- One writes what there is and shuts its direction; the other reads.
      local function send_and(client, server, pump, parts, read)
        return helper.together({
          function() return read(client) end,
          function()
            for _, part in ipairs(parts) do assert(server:write(part)) end
            assert.equal(server, server:shutdown("write"))
          end,
        }, pump)[1]
      end

      it("reads all formats", function()
        local client, server, pump = make()
        local parts = { "first\nsec", "ond\n", "12 0x10 -3.5e2x\n", "rest of it\n", "12345", "tail" }
        send_and(client, server, pump, parts, function(conn)
          assert.equal("", conn:read(0))
          assert.equal("first", conn:read())
          assert.equal("second\n", conn:read("L"))
          local a, b, c, d = conn:read("n", "n", "n", 1)
          assert.same({ 12, 16, -350.0, "x" }, { a, b, c, d })
          assert.equal("", conn:read("l"))
          assert.same({ "rest of it", "123", "45ta" }, { conn:read("*l", 3, 4) })
          assert.equal("il", conn:read("a"))
          assert.equal("", conn:read("a"))
          for _, format in ipairs { 0, 1, "l", "L", "n" } do
            assert.same({ n = 1 }, compat.pack(conn:read(format)))
          end
          assert.same({ n = 1 }, compat.pack(conn:recv()))
          assert.same({ n = 1 }, compat.pack(conn:peek()))
          assert.equal(0, conn:pending())
        end)
      end)

      it("lines reads to a clean end, with formats too", function()
        local client, server, pump = make()
        local parts = { "a\nb", "b\n\nccc\n", "1 2 3 4\nxyz" }
        local seen = {}
        send_and(client, server, pump, parts, function(conn)
          local n = 0
          helper.each(conn:lines(), function(line)
            seen[#seen + 1] = line
            n = n + 1
            return n == 4
          end)
          helper.each(conn:lines("n", "n"), function(x, y)
            seen[#seen + 1] = x + y
            return x == 3
          end)
          helper.each(conn:lines("L"), function(text) seen[#seen + 1] = text end)
        end)
        assert.same({ "a", "bb", "", "ccc", 3, 7, "\n", "xyz" }, seen)
      end)

      it("recv gives what is there, peek leaves it", function()
        local client, server, pump = make()
        local data = noise(transport.width == 1 and 2000 or 20000)
        send_and(client, server, pump, pieces(data, 997), function(conn)
          local got, n = {}, 0
          while true do
            local seen = conn:peek(7)
            if not seen then break end
            assert.is_true(#seen >= 1 and #seen <= 7)
            assert.is_true(conn:pending() >= #seen)
            local part = conn:recv(1 + n % 700)
            assert.equal(seen:sub(1, #part), part:sub(1, #seen))
            assert.is_true(#part <= 1 + n % 700)
            got[#got + 1] = part
            n = n + 1
          end
          assert.is_true(table.concat(got) == data)
        end)
      end)

      it("writes strings and numbers, many at once and none", function()
        local client, server, pump = make()
        helper.together({
          function()
            assert.equal(client, client:write())
            assert.equal(client, client:write(""))
            assert.equal(client, client:write("a", 1, 2.5, "", -7, "z\n"))
            local many = {}
            for i = 1, 3000 do many[i] = i end
            assert.equal(client, client:write(compat.unpack(many)))
            assert(client:shutdown("write"))
          end,
          function()
            assert.equal("a12.5-7z", server:read())
            local all = {}
            for i = 1, 3000 do all[i] = i end
            assert.is_true(table.concat(all) == server:read("a"))
          end,
        }, pump)
      end)

      it("carries large data both ways at once, on four coroutines", function()
        local client, server, pump = make()
        local size = transport.width == 1 and 4000 or transport.width == 64 and 40000 or helper.slow < 10 and 600000
          or 100000
        local up, down = noise(size), noise(size + 12345)
        local function writer(conn, data)
          return function()
            local big = data:sub(1, math.floor(#data / 2))
            assert(conn:write(big))
            for _, part in ipairs(pieces(data:sub(#big + 1), 5001)) do assert(conn:write(part)) end
            assert(conn:shutdown("write"))
          end
        end
        local function reader(conn)
          return function()
            local parts = { conn:read(1000), conn:recv() }
            parts[#parts + 1] = conn:read("a")
            return table.concat(parts)
          end
        end
        local results = helper.together({
          reader(client), writer(client, up), reader(server), writer(server, down),
        }, pump)
        assert.is_true(results[1][1] == down)
        assert.is_true(results[3][1] == up)
        assert.is_true(client:close())
      end)

      it("a half close leaves the other direction open", function()
        local client, server, pump = make()
        helper.together({
          function()
            assert(client:write("question"))
            assert.equal(client, client:shutdown("write"))
            assert.equal(client, client:shutdown("write"))
            local ok, err = client:write("more")
            assert.equal("closed", code_of(ok, err))
            assert.equal(0, err.written)
            assert.matches("close_notify has been sent", tostring(err), 1, true)
            assert.equal("answer", client:read("a"))
            assert.equal(client, client:shutdown())
          end,
          function()
            assert.equal("question", server:read("a"))
            assert.is_nil(server:read(1))
            assert(server:write("ans"))
            assert(server:write("wer"))
            assert.equal(server, server:shutdown())
            assert.equal(server, server:shutdown())
          end,
        }, pump)
      end)

      it("shutdown both ways keeps what is on its way", function()
        local client, server, pump = make()
        local data = noise(transport.width == 1 and 3000 or 50000)
        helper.together({
          function()
            assert.equal(client, client:shutdown())
            assert.equal(#data, client:pending())
            assert.equal(data:sub(1, 10), client:read(10))
            assert.is_true(data:sub(11) == client:read("a"))
            assert.is_nil(client:read(1))
          end,
          function()
            assert(server:write(data))
            assert.is_nil(server:read(1))
            assert(server:shutdown())
          end,
        }, pump)
      end)

      it("tells a truncation from an end", function()
        local formats = {
          { "read", 100 }, { "read", "a" }, { "read", "l" }, { "read", "L" }, { "read", "l", 50 }, { "read", 5, 20 },
        }
        for _, verb in ipairs(formats) do
          local client, server, pump = make()
          local results = helper.together({
            function() return client[verb[1]](client, compat.unpack(verb, 2)) end,
            function()
              assert(server:write("0123456789"))
              assert(client:handshake_done())
              if version == "1.3" then -- session tickets, read here, or the end is a reset
                repeat coroutine.yield(server, "read") until client:pending() > 0
              end
              cut_off(server)
            end,
          }, pump)
          local err = results[1][2]
          assert.equal(truncated, code_of(results[1][1], err))
          assert.equal(10, err.partial)
          assert.equal("read", err.operation)
          assert.matches("without close_notify", tostring(err), 1, true)
          -- what was gathered is still there, then the same error again
          assert.equal("01", client:peek(2))
          assert.equal("0123", client:read(4))
          assert.equal("45", client:recv(2))
          assert.equal("6789", client:read(100))
          local verbs = { { "read", 5 }, { "read" }, { "read", "a" }, { "recv" }, { "peek" }, { "read", 0 } }
          for _, again in ipairs(verbs) do
            local ok, same = client[again[1]](client, compat.unpack(again, 2))
            assert.is_nil(ok)
            assert.equal(err, same)
          end
          local ok, same = client:shutdown()
          assert.is_nil(ok)
          assert.equal(err, same)
          client:close()
        end
      end)

      it("lines raises the error of a truncation", function()
        local client, server, pump = make()
        local results = helper.together({
          function()
            local seen = {}
            local ok, err = compat.pcall(helper.each, client:lines(), function(line) seen[#seen + 1] = line end)
            return ok, err, seen
          end,
          function()
            assert(server:write("one\ntwo\nthr"))
            if version == "1.3" then repeat coroutine.yield(server, "read") until client:pending() > 0 end
            cut_off(server)
          end,
        }, pump)
        local ok, err, seen = compat.unpack(results[1], 1, 3)
        assert.is_false(ok)
        assert.is_true(tls.is_error(err))
        assert.equal(truncated, err.code)
        assert.equal(3, err.partial)
        assert.same({ "one", "two" }, seen)
        assert.equal("thr", client:recv())
      end)
    end)
  end
end

describe("formats", function()
  local contexts = helper.contexts()

  -- The same reads of the same bytes, from a file and from a connection that gets them in pieces.
  local function compare(text, widths, reads)
    local path = helper.temp_file(text)
    for _, width in ipairs(widths) do
      local client, server = helper.handshaken(nil, nil, nil, contexts)
      local file = assert(io.open(path, "rb"))
      helper.together {
        function()
          for i, formats in ipairs(reads) do
            local want = describe_results(compat.pack(file:read(compat.unpack(formats, 1, formats.n))))
            local got = describe_results(compat.pack(client:read(compat.unpack(formats, 1, formats.n))))
            if want ~= got then
              error(("read %d (%s) of %q in pieces of %d: io gives %s, cotls %s"):format(i,
                table.concat(formats, ","), text, width, want, got))
            end
          end
        end,
        function()
          for _, part in ipairs(pieces(text, width)) do
            assert(server:write(part))
            coroutine.yield(server, "write")
          end
          assert(server:shutdown("write"))
        end,
      }
      file:close()
      client:close()
      server:close()
    end
    os.remove(path)
  end

  local function times(n, ...)
    local reads = {}
    for i = 1, n do reads[i] = compat.pack(...) end
    return reads
  end

  it("numerals are io's", function()
    local numerals = {
      "0", "12", "-5", "+7", "0x1F", "-0xA.8p1", "1e5", "1e", "1e+", "1e+x", ".5", "5.", ".", "-", "--1", "0x", "0xg",
      "x", "1.5.5", "nan", "inf", "9223372036854775807", "9223372036854775808", "0xffffffffffffffffff", "  42",
      "\t\n 43 44",
      "1 2", "12abc", "0b1", "1E-3x", "0x.8", "0x.p1", "00012", "1,5", "1e5e5", "0x1p", "0x1p-2", "",
      ("1"):rep(199), ("1"):rep(200), ("1"):rep(201), ("1"):rep(250) .. " 5", " " .. ("7"):rep(300) .. "x",
    }
    for _, numeral in ipairs(numerals) do
      compare(numeral, { 1, 3, 1000 }, {
        { "n", n = 1 }, { "n", "l", n = 2 }, { 3, n = 1 }, { "a", n = 1 }, { "n", n = 1 },
      })
    end
  end)

  it("a numeral of 200 characters waits for what follows, as io's does", function()
    for _, after in ipairs { "1", "x", " ", "" } do
      compare(("1"):rep(200) .. after, { 200 }, { { "n", n = 1 }, { "a", n = 1 } })
    end
  end)

  it("lines are io's", function()
    for _, text in ipairs { "", "\n", "\n\n", "a", "a\n", "a\nb", "\r\na\r\n", "\0\n\0", ("x"):rep(5000) .. "\ny" } do
      for _, format in ipairs { "l", "L", "*l", "*L", "line" } do
        compare(text, { 1, 2, 4096 }, times(4, format))
      end
      compare(text, { 1, 4096 }, { { "l", "L", "l", n = 3 }, { n = 0 }, { "a", n = 1 } })
    end
  end)

  it("counts and zero are io's", function()
    for _, text in ipairs { "", "a", "abc", "abcdefgh" } do
      compare(text, { 1, 3, 100 }, {
        { 0, n = 1 }, { 2, n = 1 }, { 0, 1, 0, n = 3 }, { 3, 3, n = 2 }, { 0, n = 1 }, { 1, n = 1 },
      })
      compare(text, { 1, 100 }, { { 100, n = 1 }, { "a", n = 1 }, { "a", n = 1 }, { 0, n = 1 } })
    end
  end)

  it("any mixture is io's", function()
    local random = helper.random(20240731)
    local words = { "1", "22", "-3.5", "0x1f", "\n", "\n", "abc", " ", "e", ".", "word", "0", "\n\n" }
    local formats = { "n", "l", "L", 0, 1, 3, 7, "n", "l" }
    for _ = 1, helper.slow < 10 and 150 or 10 do
      local parts, reads = {}, {}
      for i = 1, random(12) do parts[i] = words[random(#words)] end
      for i = 1, 6 do
        reads[i] = { n = random(3) }
        for k = 1, reads[i].n do reads[i][k] = formats[random(#formats)] end
      end
      reads[7] = { "a", n = 1 }
      compare(table.concat(parts), { random(4), 500 }, reads)
    end
  end)
end)

describe("a write of numbers", function()
  it("is what tostring makes of them", function()
    local client, server = helper.handshaken()
    local numbers = { 0, -1, 1.0, 1e100, 0.1, 1 / 3, -0.0, math.huge, 2 ^ 53, math.maxinteger, math.mininteger }
    assert(client:write(compat.unpack(numbers)))
    assert(client:shutdown("write"))
    assert.equal(table.concat(numbers), helper.together { function() return server:read("a") end }[1][1])
  end)

  it("leaves the caller's arguments alone", function()
    local client = helper.handshaken()
    local list = { 1, 2.5 }
    assert(client:write(compat.unpack(list)))
    assert.equal("integer", compat.math_type(list[1]))
  end)
end)

describe("read_limit", function()
  local contexts = helper.contexts()

  local function with_limit(limit, text, read)
    local client, server = helper.handshaken(nil, { read_limit = limit }, nil, contexts)
    helper.together {
      function() read(client) end,
      function()
        for _, part in ipairs(pieces(text, 16)) do assert(server:write(part)) end
        assert(server:shutdown("write"))
      end,
    }
  end

  it("ends endless blanks before a number with \"limit\", and loses nothing", function()
    with_limit(100, (" "):rep(101) .. "7 next", function(conn)
      local ok, err = conn:read("n")
      assert.equal("limit", code_of(ok, err))
      assert.equal(" ", conn:recv(1))
      assert.equal(7, conn:read("n"))
      assert.equal(" next", conn:read("a"))
    end)
  end)

  it("ends an endless line with \"limit\", and loses nothing", function()
    for _, format in ipairs { "l", "L" } do
      local text = ("x"):rep(101) .. "\nnext\n"
      with_limit(100, text, function(conn)
        local ok, err = conn:read(format)
        assert.equal("limit", code_of(ok, err))
        assert.is_true(err.partial > 100)
        ok, err = conn:read(format)
        assert.equal("limit", code_of(ok, err))
        assert.is_true(#conn:recv(1) == 1)
        assert.equal(100, #conn:read())
        assert.equal("next", conn:read())
        assert.is_nil(conn:read())
      end)
    end
  end)

  it("allows a line of just that length, and an unfinished one at the end", function()
    with_limit(100, ("x"):rep(100) .. "\n" .. ("y"):rep(100), function(conn)
      assert.equal(100, #conn:read("l"))
      assert.equal(100, #conn:read("l"))
      assert.is_nil(conn:read("l"))
    end)
  end)

  it("bounds neither counts nor \"a\"", function()
    with_limit(10, ("x"):rep(5000), function(conn)
      assert.equal(3000, #conn:read(3000))
      assert.equal(2000, #conn:read("a"))
    end)
  end)

  it("is raised by lines as an error object", function()
    with_limit(10, "short\n" .. ("x"):rep(50), function(conn)
      local lines = conn:lines()
      assert.equal("short", lines())
      local ok, err = pcall(lines)
      assert.is_false(ok)
      assert.equal("limit", err.code)
    end)
  end)

  it("is 1 MiB by default", function()
    local client, server = helper.handshaken()
    helper.together {
      function()
        local ok, err = client:read("l")
        assert.equal("limit", code_of(ok, err))
        assert.is_true(err.partial > 0x100000 and err.partial < 0x100000 + 40000)
        client:close()
      end,
      function() server:write(("x"):rep(1200000)) end,
    }
  end)
end)

describe("shutdown", function()
  it("before the handshake is an error that harms nothing", function()
    local client, server = helper.pair()
    assert.equal("tls", code_of(client:shutdown()))
    assert.equal("tls", code_of(client:shutdown("write")))
    helper.shake(client, server)
  end)

  it("keeps 64 KiB", function()
    local client, server = helper.handshaken()
    local data = noise(64 * 1024)
    helper.together {
      function()
        assert.equal(client, client:shutdown())
        assert.is_true(data == client:read("a"))
      end,
      function()
        assert(server:write(data))
        assert(server:shutdown())
      end,
    }
  end)

  it("fails with \"limit\" beyond, keeps what came, and may go on", function()
    local client, server = helper.handshaken()
    local data = noise(300 * 1024)
    helper.together {
      function()
        local ok, err = client:shutdown()
        assert.equal("limit", code_of(ok, err))
        assert.equal("shutdown", err.operation)
        assert.is_true(err.partial > 64 * 1024)
        assert.is_true(client:pending() >= err.partial)
        assert.is_true(data == client:read("a"))
        assert.equal(client, client:shutdown())
      end,
      function()
        assert(server:write(data))
        assert.is_nil(server:read(1))
        assert(server:shutdown("write"))
      end,
    }
  end)

  it("tells a truncation", function()
    local client, server = helper.handshaken(nil, nil, nil, helper.contexts "1.2")
    local got = helper.together {
      function() return client:shutdown() end,
      function()
        assert.is_nil(server:read(1))
        assert(server:write("last words"))
        cut_off(server)
      end,
    }[1]
    assert.equal("truncated", code_of(got[1], got[2]))
    assert.equal("shutdown", got[2].operation)
    assert.equal(10, got[2].partial)
    assert.equal("last words", client:recv())
  end)

  it("to a peer that has gone is an error; what came before is still read", function()
    local client, server = helper.handshaken(nil, nil, nil, helper.contexts "1.2")
    assert(server:write("last words"))
    cut_off(server)
    local got = helper.together { function() return client:shutdown() end }[1]
    assert.equal("system", code_of(got[1], got[2]))
    assert.is_number(got[2].errno)
    assert.equal("last words", client:recv())
    got = helper.together { function() return client:read(1) end }[1]
    assert.is_nil(got[1])
    assert.is_not_nil(got[2])
  end)

  it("after the peer's is done at once", function()
    local client, server = helper.handshaken()
    assert(server:write("x"))
    assert(server:shutdown("write"))
    local got = helper.together { function() return client:shutdown() end }[1]
    assert.equal(client, got[1])
    assert.equal("x", client:read("a"))
    assert.is_nil(helper.together { function() return server:read(1) end }[1][1])
  end)
end)

describe("an end", function()
  it("that is spoiled by an attacker is an error, and what was good is kept", function()
    for _, version in ipairs(versions) do
      local client, server = helper.handshaken(nil, nil, nil, helper.contexts(version))
      assert(server:write("good"))
      assert.equal(11, uv.fs_write(server:fileno(), "no TLS here", -1))
      local got = helper.together { function() return client:read(10) end }[1]
      assert.equal("tls", code_of(got[1], got[2]))
      assert.equal(4, got[2].partial)
      assert.is_true(#got[2].queue >= 1)
      assert.equal("good", client:read(10))
      local ok, err = client:read(10)
      assert.is_nil(ok)
      assert.equal(got[2], err)
      -- writing fails too: the connection is unusable
      ok, err = client:write("x")
      assert.is_nil(ok)
      assert.equal(0, err.written) -- so that it is another object, of the same failure
      assert.equal(got[2].reason, err.reason)
      assert.equal(got[2].queue, err.queue)
      -- the peer learns why
      got = helper.together { function() return server:read(1) end }[1]
      assert.equal("alert", code_of(got[1], got[2]))
      assert.is_string(got[2].alert.name)
      assert.is_false(got[2].alert.sent)
      server:close()
      client:close()
    end
  end)

  it("a read of several formats that fails loses none of them", function()
    local client, server = helper.handshaken()
    client:settimeout(0)
    assert(server:write("one\ntwo\n12"))
    local ok, err = client:read("l", "l", "n")
    assert.equal("want_read", code_of(ok, err))
    assert.equal(10, err.partial)
    assert.equal(10, client:pending())
    assert(server:write("3 rest"))
    assert(server:shutdown("write"))
    client:settimeout(nil)
    local got = helper.together { function() return client:read("l", "l", "n", "a") end }[1]
    assert.same({ "one", "two", 123, " rest", n = 4 }, got)
  end)

  it("of the peer leaves writing possible", function()
    for _, version in ipairs(versions) do
      local client, server = helper.handshaken(nil, nil, nil, helper.contexts(version))
      assert(server:shutdown("write"))
      helper.together {
        function()
          assert.is_nil(client:read())
          assert(client:write("still here"))
          assert(client:shutdown())
        end,
        function() assert.equal("still here", server:read("a")) end,
      }
    end
  end)
end)

describe("a failure that is told again", function()
  it("says of each write how much of that one was written", function()
    local client, server = helper.handshaken("small buffers")
    local results
    local writer = coroutine.create(function() results = { client:write(noise(4000000)) } end)
    assert(coroutine.resume(writer))
    getmetatable(server).__close(server, "an error") -- it goes without a word
    local failed, why
    repeat failed, why = client:recv() until failed == nil
    assert.is_true(tls.is_error(why))
    assert(coroutine.resume(writer))
    assert.equal("dead", coroutine.status(writer))
    local first = results[2]
    assert.is_true(first.written > 0)
    local written = first.written
    local ok, second = client:write("more")
    assert.is_nil(ok)
    assert.equal(0, second.written)
    assert.equal(written, first.written)
    assert.equal(why.reason, second.reason)
    assert.is_nil(why.written)
  end)
end)
