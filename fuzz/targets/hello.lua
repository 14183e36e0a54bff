-- SPDX-License-Identifier: MIT
-- tls.parse_client_hello: what it takes for a hello is one in all its fields.

package.path = "./lua/?.lua;./lua/?/init.lua;./?.lua;" .. package.path
local tls = require "cotls"
local peers = require "fuzz.peers"

local function check_strings(list, name)
  for i, value in ipairs(list) do
    if type(value) ~= "string" then error(("%s[%d] is a %s"):format(name, i, type(value))) end
  end
end

return function(data)
  local hello = peers.judge(tls.parse_client_hello(data))
  if not hello then return end
  for _, name in ipairs { "alpn", "versions", "ciphers", "groups", "signature_algorithms" } do
    check_strings(hello[name], name)
  end
  for number, content in pairs(hello.extensions) do
    assert(math.type(number) == "integer" and number >= 0 and number < 65536 and type(content) == "string")
  end
  assert(#hello.random == 32 and #hello.session_id <= 32, "random or session_id")
  assert(#hello.ja3 == 32 and not hello.ja3:find("%X"), "ja3")
  assert(hello.ja4:find("^[tq]%w%w[di]%d%d%d%d%w%w_%x+_%x+$"), hello.ja4)
end
