-- docs/from-luasec.md says what there is: its calls exist on either side, and its programs run.

local helper = require "spec.helper"
local luasec = require "cotls.luasec"
local luv = require "cotls.luv"
local tls = require "cotls"
local tree = require "spec.tree"

local TEXT = tree.read "docs/from-luasec.md"

-- The methods of LuaSec's connections, the drop-in's, cotls'.
local context = assert(luasec.module "ssl".newcontext { mode = "client", protocol = "any" })
local THERE = getmetatable(assert(luasec.module "ssl.core".create(context))).__index
local HERE = getmetatable((helper.pair())).__index

describe("docs/from-luasec.md", function()
  it("names methods that there are, and all of LuaSec's", function()
    local table_of_calls = TEXT:match "## Call by call(.-)\n## "
    for line in table_of_calls:gmatch "\n(|[^\n]+)" do
      local left, _, right = line:match "^| (.-) |(.-)| (.-)|$"
      for name in (left or ""):gmatch "conn:([%l_]+)" do
        assert.is_function(THERE[name], name)
      end
      for name in (right or ""):gmatch "conn:([%l_]+)" do assert.is_function(HERE[name], name) end
    end
    for name in pairs(THERE) do assert.truthy(table_of_calls:find("`conn:" .. name .. "(", 1, true), name) end
  end)

  -- LuaSocket's protection in C can't be yielded across: LuaJIT tells so before, and the request blocks
  local jit = rawget(_G, "jit")
  if _VERSION == "Lua 5.1" and not jit then return end

  it("lets requests wait beside each other", function()
    local program = TEXT:match "```lua\n(require%(\"cotls%.luasec\"%)%.install { yielding = true }.-)```"
    local waiting, most = 0, 0
    helper.in_loop(function()
      local listener = assert(tls.listen("127.0.0.1", 0, { context = helper.server_context() }))
      luv.spawn(function()
        helper.each(listener, function(conn)
          luv.spawn(function()
            conn:accept()
            local line
            repeat line = conn:read("L") until not line or line == "\r\n"
            waiting = waiting + 1
            most = math.max(most, waiting)
            luv.sleep(0.3)
            waiting = waiting - 1
            conn:write "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
            conn:close()
          end)
        end)
      end)
      local url = ("https://127.0.0.1:%d/"):format(listener:port())
      local child = helper.start({ helper.lua, helper.temp_file(("urls = { %q, %q, %q }\n"):format(url, url, url)
        .. program) })
      assert.equal(0, child:wait(20), child.stderr)
      child:stop()
      listener:close()
      local _, count = child.stdout:gsub("hello\t200\t", "")
      assert.equal(3, count, child.stdout .. child.stderr)
    end, 30)
    assert.equal(jit and 1 or 3, most)
  end)
end)
