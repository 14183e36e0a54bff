-- SPDX-License-Identifier: MIT
-- Bytes for the specs, by arithmetic where the language has neither string.pack nor bit operators.

local compat = require "cotls.compat"

local bytes = {}

--- Bit by bit, of whole numbers that are not negative.
function bytes.xor(a, b)
  local result, place = 0, 1
  while a > 0 or b > 0 do
    local x, y = a % 2, b % 2
    if x ~= y then result = result + place end
    a, b, place = (a - x) / 2, (b - y) / 2, place * 2
  end
  return result
end

--- Is that bit, a power of two, set?
function bytes.has_bit(number, bit)
  return number % (2 * bit) >= bit
end

--- The text with the byte at a position changed in these bits (default: the lowest).
function bytes.flip(text, at, bits)
  at = at < 0 and #text + at + 1 or at
  return text:sub(1, at - 1) .. string.char(bytes.xor(text:byte(at), bits or 1)) .. text:sub(at + 1)
end

--- As hexadecimal digits, two a byte.
function bytes.hex(text)
  return (text:gsub(".", function(char) return ("%02x"):format(char:byte()) end))
end

--- Of hexadecimal digits; what is none is passed over.
function bytes.of_hex(digits)
  return (digits:gsub("%X", ""):gsub("%x%x", function(two) return string.char(tonumber(two, 16)) end))
end

-- ---- string.pack, as far as the specs use it: big-endian B, I<n>, s<n>, c<n> ----

local PACK, UNPACK = {}, {}

function PACK.B(value) return string.char(value) end
function PACK.I(value, size) return compat.bytes_of(value, size) end
function PACK.s(value, size) return compat.sized(value, size) end
function PACK.c(value, size) return value .. ("\0"):rep(size - #value) end

-- The text of that size; an error where it is shorter.
local function take(text, at, size)
  if #text < at + size - 1 then error("data string too short", 0) end
  return text:sub(at, at + size - 1), at + size
end

function UNPACK.I(text, at, size)
  local taken, after = take(text, at, size)
  return compat.number_at(taken, 1, size), after
end

function UNPACK.B(text, at) return UNPACK.I(text, at, 1) end
function UNPACK.c(text, at, size) return take(text, at, size) end

function UNPACK.s(text, at, size)
  local length, after = UNPACK.I(text, at, size)
  return take(text, after, length)
end

bytes.pack = string.pack or function(format, ...)
  local parts = {}
  for kind, size in format:gmatch("(%a)(%d*)") do
    parts[#parts + 1] = PACK[kind]((select(#parts + 1, ...)), tonumber(size))
  end
  return table.concat(parts)
end

bytes.unpack = string.unpack or function(format, text, at)
  local values, n = {}, 0
  at = at or 1
  for kind, size in format:gmatch("(%a)(%d*)") do
    n = n + 1
    values[n], at = UNPACK[kind](text, at, tonumber(size))
  end
  values[n + 1] = at
  return compat.unpack(values, 1, n + 1)
end

return bytes
