-- The house's laws that can be read off the sources. Each has a planted violation: a law that
-- cannot find it would find nothing.

local uv = require "luv"
local tls = require "cotls"
local tree = require "spec.tree"

local read, files = tree.read, tree.files

-- C without comments and without what strings and characters hold; lines stay where they are.
local codes = {}

local function code_of(text)
  if codes[text] then return codes[text] end
  local out, at = {}, 1
  while at <= #text do
    local two = text:sub(at, at + 1)
    local quote = text:match("^[\"']", at)
    local last
    if two == "/*" then
      last = select(2, text:find("*/", at + 2, true)) or #text
      out[#out + 1] = text:sub(at, last):gsub("[^\n]", " ")
    elseif two == "//" then
      last = (text:find("\n", at, true) or #text + 1) - 1
    elseif quote then
      last = at
      repeat
        last = last + 1
        if text:sub(last, last) == "\\" then last = last + 2 end
      until last >= #text or text:sub(last, last) == quote
      out[#out + 1] = quote .. quote
    else
      last = math.max(at, (text:find("[/\"']", at + 1) or #text + 1) - 1)
      out[#out + 1] = text:sub(at, last)
    end
    at = last + 1
  end
  codes[text] = table.concat(out)
  return codes[text]
end

local function line_of(text, at)
  return select(2, text:sub(1, at):gsub("\n", "")) + 1
end

local function count_lines(text)
  return select(2, text:gsub("\n", ""))
end

local function name_of(path)
  return path:match("[^/]+$")
end

-- Where a word of the list stands in C code, called or not.
local function words(list, allowed)
  return function(path, text)
    local found = {}
    if allowed and allowed[name_of(path)] then return found end
    local code = code_of(text)
    for _, word in ipairs(list) do
      for at in code:gmatch("()%f[%w_]" .. word .. "%f[^%w_]") do
        found[#found + 1] = ("%s:%d: %s"):format(path, line_of(code, at), word)
      end
    end
    return found
  end
end

-- As words, but only where they are called.
local function calls(list, allowed)
  local with_parenthesis = {}
  for i, word in ipairs(list) do with_parenthesis[i] = word .. "%s*%(" end
  return function(path, text)
    local found = {}
    if allowed and allowed[name_of(path)] then return found end
    local code = code_of(text)
    for _, word in ipairs(with_parenthesis) do
      for at in code:gmatch("()%f[%w_]" .. word) do
        found[#found + 1] = ("%s:%d: %s"):format(path, line_of(code, at), code:match("^[%w_]+", at))
      end
    end
    return found
  end
end

local function set(...)
  local s = {}
  for _, name in ipairs { ... } do s[name] = true end
  return s
end

local WAITS = set("drive.c", "compat51.h")
local CALLED_BY_OPENSSL = set("hook.c", "bio_fd.c", "bio_stream.c", "remote_key.c")

-- The arguments of the call whose "(" is at `at`: a list of texts.
local function arguments(code, at)
  local inside = code:match("^%b()", at)
  local list, depth, from = {}, 0, 2
  if not inside then return list end
  for i = 2, #inside do
    local char = inside:sub(i, i)
    if depth == 0 and (char == "," or i == #inside) then
      list[#list + 1] = inside:sub(from, i - 1):match("^%s*(.-)%s*$")
      from = i + 1
    elseif char == "(" then
      depth = depth + 1
    elseif char == ")" then
      depth = depth - 1
    end
  end
  return list
end

-- Functions that take a callback, and which argument it is.
local TAKES_CALLBACK = {
  ["SSL_CTX_set_[%w_]*_callback"] = 2, ["SSL_set_[%w_]*_callback"] = 2,
  ["SSL_CTX_set_[%w_]*_cb"] = 2, ["SSL_set_[%w_]*_cb"] = 2, ["SSL_CTX_sess_set_[%w_]*_cb"] = 2,
  SSL_CTX_set_verify = 3, SSL_set_verify = 3,
  X509_STORE_set_verify_cb = 2, X509_STORE_CTX_set_verify_cb = 2,
  ["PEM_read_bio_[%w_]+"] = 3, d2i_PKCS8PrivateKey_bio = 3,
  UI_UTIL_wrap_read_pem_callback = 1,
}

local function callbacks_elsewhere(path, text)
  local found = {}
  if CALLED_BY_OPENSSL[name_of(path)] then return found end
  local code = code_of(text)
  for pattern, place in pairs(TAKES_CALLBACK) do
    for start, at in code:gmatch("()%f[%w_]" .. pattern .. "%s*()%(") do
      local callback = arguments(code, at)[place]
      if callback ~= "NULL" and not (callback or ""):find("^&?cotls_hook_[%w_]+$") then
        found[#found + 1] = ("%s:%d: %s"):format(path, line_of(code, start), tostring(callback))
      end
    end
  end
  for start, callee in code:gmatch("()%f[%w_](BIO_meth_set_[%w_]+)") do
    found[#found + 1] = ("%s:%d: %s"):format(path, line_of(code, start), callee)
  end
  return found
end

local function lua_under_openssl(path, text)
  local found = {}
  if not CALLED_BY_OPENSSL[name_of(path)] then return found end
  local code = code_of(text)
  for _, pattern in ipairs { "%f[%w_]lua_[%w_]+", "%f[%w_]luaL_[%w_]+", "%f[%w_]LUA_[%w_]+" } do
    for at, what in code:gmatch("()(" .. pattern .. ")") do
      found[#found + 1] = ("%s:%d: %s"):format(path, line_of(code, at), what)
    end
  end
  return found
end

-- Before each call that may leave errors in OpenSSL's queue, the queue is emptied, with nothing of Lua in between.
local function queue_not_cleared(path, text)
  local found = {}
  local code = code_of(text)
  for _, callee in ipairs { "SSL_do_handshake", "SSL_accept", "SSL_connect", "SSL_read", "SSL_peek", "SSL_write",
    "SSL_shutdown", "SSL_read_ex", "SSL_write_ex", "SSL_read_early_data", "SSL_write_early_data" } do
    for at in code:gmatch("()%f[%w_]" .. callee .. "%s*%(") do
      local before = code:sub(1, at - 1):match(".*[%w_]+_clear_errors?%(%)(.*)$")
      if not before or count_lines(before) > 8 or before:find("%f[%w_]luaL?_") then
        found[#found + 1] = ("%s:%d: %s"):format(path, line_of(code, at), callee)
      end
    end
  end
  return found
end

local function epoll_that_waits(path, text)
  local found = {}
  local code = code_of(text)
  for start, at in code:gmatch("()%f[%w_]epoll_p?wait2?%s*()%(") do
    if arguments(code, at)[4] ~= "0" then found[#found + 1] = ("%s:%d"):format(path, line_of(code, start)) end
  end
  return found
end

-- A provider goes into a library context of cotls' own.
local function providers_of_all(path, text)
  local found = {}
  local code = code_of(text)
  for start, at in code:gmatch("()%f[%w_]OSSL_PROVIDER_[%w_]+%s*()%(") do
    if arguments(code, at)[1] ~= "made" then found[#found + 1] = ("%s:%d"):format(path, line_of(code, start)) end
  end
  return found
end

local function macros_that_jump(path, text)
  local found = {}
  local code = code_of(text):gsub("\\\n", "  ")
  for at, body in code:gmatch("()#%s*define([^\n]*)") do
    if body:find("%f[%w_]return%f[^%w_]") or body:find("%f[%w_]goto%f[^%w_]") then
      found[#found + 1] = ("%s:%d"):format(path, line_of(code, at))
    end
  end
  return found
end

local function stored_states(path, text)
  local found = {}
  local code = code_of(text)
  for at, what in code:gmatch("()(lua_State%s*%*%s*[%w_]+%s*;)") do
    found[#found + 1] = ("%s:%d: %s"):format(path, line_of(code, at), what)
  end
  return found
end

local FUNCTION_LINES = 60

local function long_functions(path, text)
  local found = {}
  local code = code_of(text)
  for at, body in ("\n" .. code):gmatch("%)%s*\n(){(.-)\n}") do
    local lines = count_lines(body)
    if lines > FUNCTION_LINES then
      found[#found + 1] = ("%s:%d: %d lines"):format(path, line_of(code, at - 1), lines)
    end
  end
  return found
end

local FILE_LINES = 700

local function long_files(path, text)
  local lines = count_lines(text)
  return lines >= FILE_LINES and { ("%s: %d lines"):format(path, lines) } or {}
end

local function no_opening(path, text)
  local opening = text:match("^(/%*.-%*/)")
  if not opening then return { path .. ": no opening comment" } end
  if not opening:find("SPDX-License-Identifier: MIT", 1, true) then return { path .. ": no SPDX line" } end
  if count_lines(opening) + 1 > 10 then return { path .. ": the opening comment has more than 10 lines" } end
  return {}
end

local MARKS = { "TO" .. "DO", "FIX" .. "ME", "XX" .. "X" }

local function marks(path, text)
  local found = {}
  for _, mark in ipairs(MARKS) do
    local at = text:find("%f[%w_]" .. mark .. "%f[^%w_]")
    if at then found[#found + 1] = ("%s:%d: %s"):format(path, line_of(text, at), mark) end
  end
  return found
end

local function long_example(path, text)
  local lines = count_lines(text)
  return lines > 60 and { ("%s: %d lines"):format(path, lines) } or {}
end

-- What a module written in Lua must not do to its host.
local function lua_settings(path, text)
  local found = {}
  for _, pattern in ipairs { "%f[%w_.]print%s*%(", "io%.write", "io%.stdout", "io%.stderr", "os%.exit",
    "os%.setlocale", "io%.output", "io%.input", "collectgarbage%s*%(?%s*[\"']" } do
    for at in text:gmatch("()" .. pattern) do
      found[#found + 1] = ("%s:%d: %s"):format(path, line_of(text, at), pattern)
    end
  end
  return found
end

local SOURCES = files("src", "%.[ch]$")
local C_FILES = files("src", "%.c$")
local LUA_MODULES = files("lua", "%.lua$")
local EXAMPLES = files("examples", "%.lua$")
local EVERYTHING = {}
for _, list in ipairs { SOURCES, LUA_MODULES, EXAMPLES, files("spec", "%.lua$"), files("scripts", "."),
  files("bench", "%.[chl]u?a?$") } do
  for _, one in ipairs(list) do EVERYTHING[#EVERYTHING + 1] = one end
end

local laws = {
  { "only drive.c waits", SOURCES,
    words({ "lua_yieldk", "lua_yield", "lua_callk", "lua_pcallk", "poll", "select", "nanosleep", "usleep" },
      WAITS),
    planted = { "src/socket.c", "int f(lua_State *L)\n{\n    return lua_yieldk (L, 0, 0, k);\n}\n" } },
  { "epoll is only looked at, never waited for", SOURCES, epoll_that_waits,
    planted = { "src/poller.c", "n = epoll_wait(p->fd, events, BATCH, -1);" } },
  { "only drive.c asks SSL_get_error", SOURCES, words({ "SSL_get_error" }, WAITS),
    planted = { "src/transfer.c", "x = SSL_get_error(ssl, r);" } },
  { "version conditions are in compat.h only", SOURCES,
    words({ "LUA_VERSION_NUM", "OPENSSL_VERSION_NUMBER", "OPENSSL_VERSION_MAJOR", "OPENSSL_VERSION_PREREQ",
      "LUAJIT_VERSION", "LUAJIT_VERSION_NUM", "LIBRESSL_VERSION_NUMBER" }, set("compat.h")),
    planted = { "src/core.c", "#if LUA_VERSION_NUM > 501\n#endif\n" } },
  { "OpenSSL's callbacks are defined where OpenSSL may call", SOURCES, callbacks_elsewhere,
    planted = { "src/context.c", "SSL_CTX_set_info_callback(ctx, my_info);\n" } },
  { "OpenSSL's callbacks: the verify callback too", SOURCES, callbacks_elsewhere,
    planted = { "src/context.c", "SSL_CTX_set_verify(x->ssl_ctx, f(a, b), verify_one);\n" } },
  { "OpenSSL's callbacks: the password callback too", SOURCES, callbacks_elsewhere,
    planted = { "src/key.c", "PEM_read_bio_PrivateKey(bio, NULL, ask, arg);\n" } },
  { "OpenSSL's callbacks: that of a user interface too", SOURCES, callbacks_elsewhere,
    planted = { "src/store.c", "UI_METHOD *ui = UI_UTIL_wrap_read_pem_callback(ask, 0);\n" } },
  { "OpenSSL's callbacks: a missing one prompts", SOURCES, callbacks_elsewhere,
    planted = { "src/key.c", "PEM_read_bio_PrivateKey(bio, NULL, 0, arg);\n" } },
  { "what OpenSSL calls touches no Lua", SOURCES, lua_under_openssl,
    planted = { "src/hook.c", "static int f(void)\n{\n    lua_call(stored, 0, 0);\n}\n" } },
  { "the error queue is empty before each call that fills it", SOURCES, queue_not_cleared,
    planted = { "src/transfer.c", "ERR_clear_error();\nlua_pushnil(L);\nr = SSL_read(ssl, p, n);\n" } },
  { "no macro returns or jumps", SOURCES, macros_that_jump,
    planted = { "src/cotls.h", "#define CHECK(x) \\\n    if (!(x)) \\\n    return 0\n" } },
  { "no lua_State is stored", SOURCES, stored_states,
    planted = { "src/cotls.h", "struct s {\n    lua_State *L;\n};\n" } },
  { "no luaL_ref, and no Lua value is remembered elsewhere than in uservalues", SOURCES,
    words { "luaL_ref", "luaL_unref" },
    planted = { "src/core.c", "ref = luaL_ref(L, LUA_REGISTRYINDEX);" } },
  { "a function has at most " .. FUNCTION_LINES .. " lines", SOURCES, long_functions,
    planted = { "src/core.c", "static int f(void)\n{\n" .. ("    x();\n"):rep(FUNCTION_LINES + 2) .. "}\n" } },
  { "a file has fewer than " .. FILE_LINES .. " lines", SOURCES, long_files,
    planted = { "src/core.c", ("\n"):rep(FILE_LINES) } },
  { "each file opens with a short comment and the licence's name", C_FILES, no_opening,
    planted = { "src/core.c", "/* SPDX-License-Identifier: MIT\n" .. (" * x\n"):rep(10) .. " */\n" } },
  { "each file opens with the licence's name", C_FILES, no_opening,
    planted = { "src/core.c", "/* What it owns. */\n" } },
  { "no process-wide setting is touched, nothing printed", SOURCES,
    calls({ "signal", "sigaction", "sigprocmask", "setlocale", "atexit", "on_exit", "exit", "_exit", "abort",
      "printf", "puts", "putchar", "fprintf", "vprintf", "fputs", "fwrite", "perror", "system", "fork", "chdir",
      "umask", "setenv", "putenv", "unsetenv", "srand", "setrlimit",
      "OSSL_PROVIDER_set_default_search_path", "OPENSSL_init_crypto", "OPENSSL_init_ssl", "CRYPTO_set_mem_functions",
      "ERR_print_errors_fp", "ERR_print_errors",
      "EVP_set_default_properties", "SSL_CTX_set_default_passwd_cb" }),
    planted = { "src/core.c", "static void f(void)\n{\n    printf(\"hello\");\n}\n" } },
  { "the process's providers are not touched", SOURCES, providers_of_all,
    planted = { "src/remote_key.c", "ok = OSSL_PROVIDER_load(NULL, \"cotls\") != NULL;\n" } },
  { "the Lua modules print nothing and set nothing", LUA_MODULES, lua_settings,
    planted = { "lua/cotls/net.lua", "local x = 1\nprint(x)\n" } },
  { "nothing is left for later", EVERYTHING, marks,
    planted = { "src/core.c", "/* " .. MARKS[1] .. ": later */" } },
  { "each example has at most 60 lines", EXAMPLES, long_example,
    planted = { "examples/x.lua", ("\n"):rep(61) } },
}

describe("the house's laws:", function()
  for _, law in ipairs(laws) do
    local what, list, find, planted = law[1], law[2], law[3], law.planted
    it(what, function()
      assert.is_true(#list > 0 or list == EXAMPLES, "there are no files to look at")
      for _, one in ipairs(list) do assert.same({}, find(one.path, one.text)) end
    end)
    it(what .. ": a violation is found", function()
      assert.is_true(#find(planted[1], planted[2]) > 0)
    end)
  end

  it("comments and strings are not code", function()
    local text = "/* SSL_get_error(a) */ f(\"SSL_get_error(\\\"a)\"); // SSL_get_error(b)\nchar q = '\"'; g();\n"
    assert.same({}, words({ "SSL_get_error" })("src/x.c", text))
    assert.same({ "src/x.c:2: g" }, words({ "g" })("src/x.c", text))
  end)

  it("snprintf is not printf, and a call across lines is one", function()
    local find = calls { "printf" }
    assert.same({}, find("src/x.c", "snprintf(b, n, f);"))
    assert.same({ "src/x.c:2: printf" }, find("src/x.c", "\nprintf\n(f);"))
  end)
end)

-- ---- symbols ----

local function defined(command)
  local handle = assert(io.popen(command .. " 2>/dev/null"))
  local found = {}
  for line in handle:lines() do
    local kind, name = line:match(" ([A-Z]) ([^%s@]+)")
    -- a compiler's own (sanitizers, the linker) begin with an underscore, but for one of gcov's
    if kind and kind ~= "U" and not name:find("^_") and name ~= "mangle_path" then found[#found + 1] = name end
  end
  handle:close()
  return found
end

local function not_shared(names, header)
  local bad = {}
  for _, name in ipairs(names) do
    local ours = name:find("^cotls_") and header:find("%f[%w_]" .. name .. "%f[^%w_]")
    if not ours and not name:find("^luaopen_") then bad[#bad + 1] = name end
  end
  return bad
end

describe("the symbols of the module", function()
  local header = code_of(read("src/cotls.h") .. read("src/parts.h"))

  it("that are exported: the opener alone", function()
    assert.same({ "luaopen_cotls_core" }, defined("nm -D --defined-only '" .. tree.core .. "'"))
  end)

  it("that its files share are those of cotls.h", function()
    local folder = tree.build .. "/obj"
    local scan = uv.fs_scandir(folder)
    if not scan then return pending("the objects are not there: the module was installed") end
    local shared = defined("nm -g --defined-only '" .. folder .. "'/*.o")
    assert.is_true(#shared > 30)
    assert.same({}, not_shared(shared, header))
  end)

  it("a violation is found", function()
    assert.same({ "conn_read", "cotls_nowhere" }, not_shared({ "conn_read", "cotls_run", "cotls_nowhere" }, header))
  end)
end)

-- ---- every verb is exercised ----

-- The names of functions in a table.
local function functions_of(t)
  local names = {}
  for name, value in pairs(t) do
    if type(value) == "function" and not tostring(name):find("^_") then names[#names + 1] = name end
  end
  table.sort(names)
  return names
end

local function unnamed(names, text)
  local missing = {}
  for _, name in ipairs(names) do
    if not text:find("[.:]" .. name .. "%f[^%w_]") then missing[#missing + 1] = name end
  end
  return missing
end

describe("every verb is named in a spec:", function()
  local core = require "cotls.core"
  local specs = {}
  for _, one in ipairs(files("spec", "_spec%.lua$")) do
    if name_of(one.path) ~= "laws_spec.lua" then specs[#specs + 1] = one.text end
  end
  local text = table.concat(specs)
  local listener = assert(tls.listen("127.0.0.1", 0, tls.make_certificate { names = { "localhost" } }))
  local faces = {
    tls = tls,
    luv = require "cotls.luv",
    context = core.methods("cotls.context"),
    connection = core.methods("cotls.connection"),
    socket = core.methods("cotls.socket"),
    x509 = core.methods("cotls.x509"),
    listener = getmetatable(listener).__index,
  }
  listener:close()
  for face, functions in pairs(faces) do
    it(face, function()
      local names = functions_of(functions)
      assert.is_true(#names > 0)
      assert.same({}, unnamed(names, text))
    end)
  end

  it("one that is not is found", function()
    assert.same({ "nobody_calls_this" }, unnamed({ "close", "nobody_calls_this" }, "conn:close()"))
  end)
end)
