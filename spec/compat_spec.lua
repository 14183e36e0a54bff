-- SPDX-License-Identifier: MIT
-- One contract for every Lua: run by each of them.

local compat = require "cotls.compat"

describe("cotls.compat", function()
  it("packs, unpacks and moves with holes", function()
    local list = compat.pack(nil, 2, nil)
    assert.same({ n = 3, [2] = 2 }, list)
    assert.same({ n = 3, [2] = 2 }, compat.pack(compat.unpack(list, 1, list.n)))
    assert.same({ 9, "a", "b" }, compat.move({ "x", "a", "b" }, 2, 3, 2, { 9 }))
  end)

  it("tells whole numbers", function()
    for value, kind in pairs { [0] = "integer", [-7] = "integer", [2 ^ 31 + 0.5] = "float", [0.5] = "float" } do
      assert.equal(kind, compat.math_type(value))
    end
    for _, value in ipairs { math.huge, -math.huge, 0 / 0 } do assert.equal("float", compat.math_type(value)) end
    for _, value in ipairs { "1", {}, true } do assert.is_nil(compat.math_type(value)) end
  end)

  it("has numbers as bytes", function()
    assert.equal("\0\1\2\255", compat.bytes_of(0x102FF, 4))
    assert.equal(0x102FF, compat.number_at("x\0\1\2\255y", 2, 4))
    assert.equal(0xFFFFFFFF, compat.number_at(compat.bytes_of(0xFFFFFFFF, 4), 1, 4))
    assert.equal("\0\3abc", compat.sized("abc", 2))
    assert.equal("\0", compat.sized("", 1))
  end)

  it("runs text", function()
    assert.equal(3, assert(compat.loadstring("return ... + 1"))(2))
    assert.is_nil((compat.loadstring("return return")))
  end)

  describe("pcall", function()
    it("gives what the function gives, or its error", function()
      for _, main in ipairs { true, false } do
        local run = main and function(fn) return fn() end or function(fn) return coroutine.wrap(fn)() end
        run(function()
          local err = {}
          local function same(...) return ... end
          assert.same({ n = 4, true, nil, 2, nil }, compat.pack(compat.pcall(same, nil, 2, nil)))
          assert.same({ n = 2, true, "7" }, compat.pack(compat.pcall(tostring, 7)))
          local ok, got = compat.pcall(error, err)
          assert.is_false(ok)
          assert.equal(err, got)
        end)
      end
    end)

    it("passes yields on, also from one within another, and errors after them", function()
      local inner, co
      co = coroutine.create(function(...)
        return "end", compat.pcall(function(...)
          assert.equal(co, compat.running())
          local got = coroutine.yield("first", ...)
          local ok, err = compat.pcall(function()
            assert.equal(co, compat.running())
            coroutine.yield("second", got)
            error("inner", 0)
          end)
          inner = { ok, err }
          assert.equal(co, compat.running())
          error("outer", 0)
        end, ...)
      end)
      assert.same({ true, "first", 1, 2 }, { coroutine.resume(co, 1, 2) })
      assert.same({ true, "second", "x" }, { coroutine.resume(co, "x") })
      assert.same({ true, "end", false, "outer" }, { coroutine.resume(co) })
      assert.same({ false, "inner" }, inner)
      assert.equal("dead", coroutine.status(co))
    end)
  end)

  it("closes what is to be closed when a function ends, where the language does", function()
    if not compat.closing then return assert.is_nil(coroutine.close) end
    local closed = 0
    local resource = setmetatable({}, { __close = function() closed = closed + 1 end })
    local given
    compat.closing(resource, function(...) given = { ... } end, 1, 2)
    assert.same({ 1, 2 }, given)
    assert.equal(1, closed)
    assert.is_false(pcall(compat.closing, resource, error))
    assert.equal(2, closed)
    local co = coroutine.create(compat.closing)
    coroutine.resume(co, resource, coroutine.yield)
    compat.close(co)
    assert.equal(3, closed)
  end)
end)
