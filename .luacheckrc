-- The language of the modules is Lua 5.4; code that must run elsewhere asks for
-- what it needs at run time.
std = "lua54"
max_line_length = 120
cache = false

-- Interface methods keep their `self`, also where one implementation ignores it.
self = false

exclude_files = { "build", "docs" }

files["spec"] = { std = "lua54+busted" }
files["*.rockspec"] = { std = "rockspec" }

-- Declarations only: empty functions whose arguments exist to be documented.
files["lua/cotls/types.lua"] = { ignore = { "211", "212", "241" } }
