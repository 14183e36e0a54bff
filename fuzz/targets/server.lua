-- SPDX-License-Identifier: MIT
-- A server of each kind, and bytes from the network. The first byte chooses the server; the rest comes in
-- pieces, the length of each in front of it.

package.path = "./lua/?.lua;./lua/?/init.lua;./?.lua;" .. package.path
local peers = require "fuzz.peers"

return function(data)
  peers.feed(peers.choose(peers.servers, data:byte()), nil, "accept", peers.pieces(data, 2))
end
