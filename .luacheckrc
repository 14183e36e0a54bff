-- The language is what Lua 5.1, LuaJIT, 5.3 and 5.4 have in common; what differs
-- is in one file, cotls/compat.lua.
std = "lua54"
max_line_length = 120
cache = false

-- Interface methods keep their `self`, also where one implementation ignores it.
self = false

exclude_files = { "build", "docs" }

files["lua"] = { std = "min" }
files["examples"] = { std = "min" }
files["lua/cotls/compat.lua"] = { std = "max" }

files["spec"] = {
  std = "min+busted",
  -- asked for, and done without where they are not
  read_globals = { coroutine = { fields = { "close" } }, math = { fields = { "maxinteger", "mininteger" } },
    string = { fields = { "pack", "unpack" } } },
}
files["*.rockspec"] = { std = "rockspec" }

-- Declarations only: empty functions whose arguments exist to be documented.
files["lua/cotls/types.lua"] = { ignore = { "211", "212", "241" } }
