-- SPDX-License-Identifier: MIT
-- ssl.core: connections without ssl.wrap's comfort.

local connection = require "cotls.luasec.connection"

local core = { SOCKET_INVALID = -1 }

--- A connection object for a context of ssl.context, without a descriptor.
function core.create(ctx)
  return connection.new(ctx)
end

--- Gives it its descriptor, which is its own from then on.
function core.setfd(self, fd)
  connection.setfd(self, fd)
end

core.info = connection.describe
core.compression = connection.compression

--- Adds a method to all connections.
function core.setmethod(name, method)
  if type(name) ~= "string" then
    error(("bad argument #1 to 'setmethod' (string expected, got %s)"):format(type(name)), 2)
  end
  connection.setmethod(name, method)
end

function core.copyright()
  return "cotls.luasec, after LuaSec 1.3.2"
end

return core
