-- SPDX-License-Identifier: MIT
-- ClientHellos for specs of what cotls makes of them, and what it has to make of them: read a second time here, by
-- bytes.unpack and not by lengths, and fingerprinted with the openssl program's digests.
--
--   client_hello.build(fields)    → a message: version, random, session_id, ciphers (numbers), extensions
--                                   ({ type =, content = }); without extensions there is no block of them
--   client_hello.record(message)  → the same in records of at most `width` bytes
--   client_hello.message(records) → the message again
--   client_hello.read(message)    → what it says, all of it as numbers and bytes
--   client_hello.ja3(said)        → text, hash; ja3_text(said) without a program
--   client_hello.ja4(said)        → text; ja4_head(said), its first part, without a program

local compat = require "cotls.compat"
local bytes = require "spec.bytes"
local helper = require "spec.helper"

local client_hello = {}

-- ---- making ----

local function numbers(list, format)
  local parts = {}
  for i, number in ipairs(list) do parts[i] = bytes.pack(format or ">I2", number) end
  return table.concat(parts)
end

-- One list behind its length.
function client_hello.list(width, list, format)
  return bytes.pack(">s" .. width, numbers(list, format))
end

function client_hello.protocols(...)
  local parts = {}
  for i, name in ipairs { ... } do parts[i] = bytes.pack(">s1", name) end
  return bytes.pack(">s2", table.concat(parts))
end

function client_hello.build(fields)
  local block = ""
  if fields.extensions then
    local parts = {}
    for i, one in ipairs(fields.extensions) do parts[i] = bytes.pack(">I2 s2", one.type, one.content) end
    block = bytes.pack(">s2", table.concat(parts))
  end
  local body = bytes.pack(">I2 c32 s1 s2 s1", fields.version or 0x0303, fields.random or ("r"):rep(32),
    fields.session_id or "", numbers(fields.ciphers or {}), "\0") .. block
  return bytes.pack(">BI3", 1, #body) .. body
end

function client_hello.record(message, width)
  local parts = {}
  for at = 1, #message, width or 16384 do
    parts[#parts + 1] = bytes.pack(">B I2 s2", 22, 0x0301, message:sub(at, at + (width or 16384) - 1))
  end
  return table.concat(parts)
end

-- The message in records.
function client_hello.message(records)
  local message, at = "", 1
  while #message < 4 or #message < 4 + bytes.unpack(">I3", message, 2) do
    local _, _, content, after = bytes.unpack(">B I2 s2", records, at)
    message, at = message .. content, after
  end
  return message
end

-- ---- reading ----

-- The results of unpack if they end where the bytes end; else nothing.
local function whole(format, text)
  local got = compat.pack(pcall(bytes.unpack, format, text))
  if got[1] and got[got.n] == #text + 1 then return compat.unpack(got, 2, got.n - 1) end
end

local function items(text, format, size)
  local list = {}
  if not text or #text % size ~= 0 then return list end
  for at = 1, #text, size do list[#list + 1] = bytes.unpack(format, text, at) end
  return list
end

local function protocols(text)
  local list, at = {}, 1
  while at <= #text do
    local ok, name, after = pcall(bytes.unpack, "s1", text, at)
    if not ok or name == "" then return {} end
    list[#list + 1], at = name, after
  end
  return list
end

local function server_name(text)
  local kind, name = whole("> B s2", whole(">s2", text) or "")
  if kind == 0 and name ~= "" and #name <= 255 and not name:find("\0", 1, true) then return name end
end

-- The head of it must be good.
function client_hello.read(message)
  local said, block = {}, nil
  local body = message:sub(5)
  local ciphers, methods, at
  said.legacy_version, said.random, said.session_id, ciphers, methods, at = bytes.unpack(">I2 c32 s1 s2 s1", body)
  said.methods = methods
  said.ciphers = items(ciphers, ">I2", 2)
  said.types, said.contents = {}, {}
  if at <= #body then block = whole(">s2", body:sub(at)) end
  at = 1
  while block and at <= #block do
    local type, content
    type, content, at = bytes.unpack(">I2 s2", block, at)
    said.types[#said.types + 1] = type
    said.contents[type] = said.contents[type] or content
  end
  local function of(type, format, ...) return items(whole(format, said.contents[type] or ""), ...) end
  said.groups, said.schemes = of(10, ">s2", ">I2", 2), of(13, ">s2", ">I2", 2)
  said.formats, said.versions = of(11, "s1", "B", 1), of(43, "s1", ">I2", 2)
  if not said.contents[43] then said.versions = { said.legacy_version } end
  said.alpn = protocols(whole(">s2", said.contents[16] or "") or "")
  said.server_name = server_name(said.contents[0] or "")
  return said
end

-- ---- fingerprints ----

local GREASE = {}
for i = 0, 15 do GREASE[i * 0x1010 + 0x0a0a] = true end

local function without(list, ...)
  local out, drop = {}, {}
  for _, one in ipairs { ... } do drop[one] = true end
  for _, one in ipairs(list) do
    if not GREASE[one] and not drop[one] then out[#out + 1] = one end
  end
  return out
end

local function joined(list, format, between)
  local out = {}
  for i, one in ipairs(list) do out[i] = format:format(one) end
  return table.concat(out, between)
end

local function digest(name, text)
  return helper.openssl({ "dgst", "-" .. name, "-r" }, text):match("^%x+")
end

function client_hello.ja3_text(said)
  local parts = { tostring(said.legacy_version) }
  for i, list in ipairs { said.ciphers, said.types, said.groups, said.formats } do
    parts[i + 1] = joined(without(list), "%d", "-")
  end
  return table.concat(parts, ",")
end

function client_hello.ja3(said)
  local text = client_hello.ja3_text(said)
  return text, digest("md5", text)
end

local VERSIONS = { [0x0304] = "13", [0x0303] = "12", [0x0302] = "11", [0x0301] = "10", [0x0300] = "s3", [2] = "s2" }

local function short(list, more)
  if #list == 0 then return "000000000000" end
  table.sort(list)
  local text = joined(list, "%04x", ",")
  if #more > 0 then text = text .. "_" .. joined(more, "%04x", ",") end
  return digest("sha256", text):sub(1, 12)
end

-- The part that can be read.
function client_hello.ja4_head(said)
  local versions, first = without(said.versions), said.alpn[1]
  table.sort(versions)
  local ends = first and first:sub(1, 1) .. first:sub(-1) or "00"
  if ends:find("[^0-9A-Za-z]") then
    ends = ("%02x"):format(first:byte()):sub(1, 1) .. ("%02x"):format(first:byte(-1)):sub(2)
  end
  return ("t%s%s%02d%02d%s"):format(VERSIONS[versions[#versions]] or "00", said.contents[0] and "d" or "i",
    math.min(#without(said.ciphers), 99), math.min(#without(said.types), 99), ends)
end

function client_hello.ja4(said)
  return ("%s_%s_%s"):format(client_hello.ja4_head(said), short(without(said.ciphers), {}),
    short(without(said.types, 0, 16), without(said.schemes)))
end

return client_hello
