-- SPDX-License-Identifier: MIT
-- ClientHellos by hand: what a client would send, with extensions replaced, put before a server that is then told
-- apart by what it answers. For specs of what a server makes of what no client of ours sends.
--
--   hello.of(context, options)             → a ClientHello, as a record
--   hello.with(record, type, content)      the same with another extension of that type; false: without it
--   hello.server_name(...)                 the content of a server_name extension (RFC 6066 section 3)
--   hello.meet(server, record)             → "ServerHello" or the alert's number, the server's error or nil
--   hello.retry(server, client, options, change)  the same for the second ClientHello, after change(record)

local bytes = require "spec.bytes"
local helper = require "spec.helper"

local hello = { SERVER_NAME = 0 }

-- RFC 8446 sections 5.1 and 4.1.2; the rest is kept as it is.
local HEAD = ">B I2 s2"
local function parse(record)
  local _, _, message = bytes.unpack(HEAD, record)
  local kind, high, low, version, random, id, suites, methods, extensions, after =
    bytes.unpack(">B B I2 I2 c32 s1 s2 s1 s2", message)
  assert(kind == 1 and high == 0 and low == #message - 4 and after == #message + 1, "not one ClientHello")
  local list, at = {}, 1
  while at <= #extensions do
    local one = {}
    one.type, one.content, at = bytes.unpack(">I2 s2", extensions, at)
    list[#list + 1] = one
  end
  return bytes.pack(">I2 c32 s1 s2 s1", version, random, id, suites, methods), list
end

local function build(head, list)
  local parts = {}
  for i, one in ipairs(list) do parts[i] = bytes.pack(">I2 s2", one.type, one.content) end
  local body = head .. bytes.pack(">s2", table.concat(parts))
  return bytes.pack(HEAD, 22, 0x0301, bytes.pack(">BI3", 1, #body) .. body)
end

--- What a client sends first: one record, for extensions.
function hello.of(context, options)
  local a, b = helper.socketpair()
  local client = assert(context:wrap(a, options))
  client:settimeout(0)
  assert(helper.code_of(client:connect()) == "want_read")
  local record = assert(helper.read_fd(b, 65536))
  client:close()
  helper.close_fd(b)
  return record
end

--- A name's place in the list of a server_name extension.
function hello.entry(name, kind)
  return bytes.pack(">B s2", kind or 0, name)
end

function hello.server_name(...)
  local entries = {}
  for i, name in ipairs { ... } do entries[i] = hello.entry(name) end
  return bytes.pack(">s2", table.concat(entries))
end

--- With the content in the place of the extension of that type, before all others where there is none.
function hello.with(record, type, content)
  local head, list = parse(record)
  local at
  for i, one in ipairs(list) do
    if one.type == type then at = i end
  end
  if at then table.remove(list, at) end
  if content then table.insert(list, at or 1, { type = type, content = content }) end
  return build(head, list)
end

-- What the server sends next: "ServerHello", or the number of its alert and the error of its accept.
local function answer(server, fd, record)
  assert(helper.write_fd(fd, record) == #record)
  local ok, err = server:accept()
  assert(ok == nil)
  local said = helper.read_fd(fd, 65536) or ""
  if said:byte(1) == 22 and said:byte(6) == 2 then return "ServerHello", said end
  if said:sub(1, 6) == "\20\3\3\0\1\1" then said = said:sub(7) end -- for middleboxes, RFC 8446 appendix D.4
  if said:byte(1) == 22 and said:byte(6) == 8 or said:byte(1) == 23 then return "ServerHello", said end
  assert(said:byte(1) == 21, "neither a ServerHello nor an alert")
  return said:byte(7), err
end

--- What the server answers a hello with: "ServerHello", or the number of its alert; and its error then.
function hello.meet(context, record)
  local a, b = helper.socketpair()
  local server = assert(context:wrap(b, { timeout = 0 }))
  local got, err = answer(server, a, record)
  server:close()
  helper.close_fd(a)
  return got, err
end

--- A client's first hello goes to the server as it is, which must ask for another; that goes through change.
-- @return what hello.meet gives for it, and the server's connection, closed
function hello.retry(context, client_context, options, change)
  local a, b = helper.socketpair()
  local c, d = helper.socketpair()
  local client, server = assert(client_context:wrap(a, options)), assert(context:wrap(d, { timeout = 0 }))
  client:settimeout(0)
  assert(helper.code_of(client:connect()) == "want_read")
  local got, retry = answer(server, c, assert(helper.read_fd(b, 65536)))
  assert(got == "ServerHello", "no HelloRetryRequest")
  assert(helper.write_fd(b, retry) == #retry)
  assert(helper.code_of(client:connect()) == "want_read")
  local second = assert(helper.read_fd(b, 65536)):gsub("^\20\3\3%z\1\1", "")
  local err
  got, err = answer(server, c, change(second))
  client:close()
  server:close()
  helper.close_fd(b)
  helper.close_fd(c)
  return got, err, server
end

return hello
