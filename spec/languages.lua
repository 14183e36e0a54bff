-- SPDX-License-Identifier: MIT
-- What the specs leave out on which Lua, and why. scripts/busted.lua keeps to it; docs/testing.md shows it:
--
--   lua5.4 spec/languages.lua --write
--
-- A spec is named by its file and its full name, or by the beginning or end of several, "..." in the
-- place of the rest.

local languages = {}

-- "5.1", "5.3", "5.4" or "LuaJIT".
languages.here = rawget(_G, "jit") and "LuaJIT" or _VERSION:match("%d%.%d")

languages.all = { "5.4", "5.3", "LuaJIT", "5.1" }

-- Each { on =, why =, specs = { file = { full names } } }.
languages.reasons = {
  {
    on = { "5.3", "LuaJIT", "5.1" },
    why = "no to-be-closed variables, no coroutine.close",
    specs = {
      ["connection_spec.lua"] = {
        "closing __close without an error says close_notify",
        "closing __close with an error says nothing: the peer sees a truncation",
        "closing coroutine.close runs __close, which doesn't yield",
      },
      ["net_spec.lua"] = { "a listener closes at the end of a scope" },
      ["socket_spec.lua"] = { "a socket closes at the end of its scope" },
      ["luv_spec.lua"] = {
        "waiting in the loop a coroutine that is closed while it waits holds neither the connection nor the loop",
        "waiting in the loop a coroutine closed in its handshake closes the connection at the next call",
      },
      ["drive_spec.lua"] = {
        "an abandoned coroutine's slot is free when the coroutine is closed",
        "an abandoned coroutine's slot of an implicit handshake too",
      },
      ["hook_wait_spec.lua"] = {
        "... closes the connection at the next call when its coroutine was closed in mid-hook",
      },
    },
  },
  {
    on = { "LuaJIT", "5.1" },
    why = "io reads otherwise there; cotls reads as io of Lua 5.4 everywhere",
    specs = {
      ["transfer_spec.lua"] = {
        "formats numerals are io's",
        "formats a numeral of 200 characters waits for what follows, as io's does",
        "formats lines are io's",
        "formats any mixture is io's",
      },
      ["model_spec.lua"] = { "two ends with several coroutines each, driven at random ..." },
    },
  },
  {
    on = { "5.3", "LuaJIT", "5.1" },
    why = "the program that lets calls fail is for Lua 5.4",
    specs = {
      ["faults_spec.lua"] = {
        "with a fault a failure whose error finds no memory is not taken for the peer's clean end",
        "with a fault a send that fails, though the peer is there, leaves nobody waiting for an answer to it",
        "with a fault a poll that fails is an error value",
        "with a fault a listener whose own address can't be told is none",
        "with a fault flush_sessions without memory leaves nothing in OpenSSL's queue",
        "with a fault a drop-in's failure whose text finds no memory leaves nothing in OpenSSL's queue",
        "with a fault a drop-in's handshake whose failure finds no memory is not begun for ever",
        "with a fault a drop-in's certificate whose object finds no memory is freed",
        "with a fault a key that finds no memory is not passed over in silence",
        "with a fault a transport that is had back is neither closed nor lost",
        "with a fault a session that OpenSSL's cache finds no memory for is not touched once it is freed",
        "with a fault a pre-shared key's identity that finds no memory is a failure, not a peer without one",
        "with a fault a name of make_certificate that finds no memory leaves nothing in OpenSSL's queue",
      },
    },
  },
  { on = { "5.1" }, why = "as io, too", specs = { ["transfer_spec.lua"] = { "formats counts and zero are io's" } } },
  {
    on = { "5.1" },
    why = "the iterator of a for can't yield, and examples go so over what a listener or a connection gives",
    specs = {
      ["examples_spec.lua"] = {
        "examples/demo.lua ...", "examples/early_data.lua ...", "examples/echo_server.lua ...",
        "examples/https_server.lua ...", "examples/many_names.lua ...", "examples/mutual_tls.lua ...",
        "examples/remote_signer.lua ...", "examples/resumption.lua ...", "examples/starttls.lua ...", "README.md ...",
      },
      ["hook_examples_spec.lua"] = {
        "examples/handshake_trace.lua ...", "with Redis ...",
      },
    },
  },
}

local function has(list, wanted)
  for _, one in ipairs(list) do
    if one == wanted then return true end
  end
  return false
end

--- The pattern of a name.
function languages.pattern(name)
  local before, fixed, after = name:match("^(%.*)(.-)( ?%.*)$")
  return (before == "..." and "" or "^") .. fixed:gsub("%p", "%%%0") .. (after == " ..." and "" or "$")
end

--- The patterns of what is left out on a Lua.
function languages.left_out(language)
  local patterns = {}
  for _, reason in ipairs(languages.reasons) do
    for _, specs in pairs(has(reason.on, language) and reason.specs or {}) do
      for _, name in ipairs(specs) do patterns[#patterns + 1] = languages.pattern(name) end
    end
  end
  return patterns
end

--- The table of docs/testing.md.
function languages.table()
  local lines = { "| Left out on | Because | Specs |", "| --- | --- | --- |" }
  for _, reason in ipairs(languages.reasons) do
    local files = {}
    for file in pairs(reason.specs) do files[#files + 1] = file end
    table.sort(files)
    for i, file in ipairs(files) do
      files[i] = ("%s: %s"):format(file, table.concat(reason.specs[file], "; "):gsub("|", "\\|"))
    end
    lines[#lines + 1] = ("| %s | %s | %s |"):format(table.concat(reason.on, ", "), reason.why,
      table.concat(files, "<br>"))
  end
  return table.concat(lines, "\n") .. "\n"
end

--- The page with that table in the place of its own.
function languages.page_with(page, text)
  local before, after = page:match("^(.-<!%-%- left out %-%->\n).-(<!%-%- end of left out %-%->.*)$")
  return assert(before, "the marks are missing") .. "\n" .. text .. "\n" .. after
end

if arg and arg[0] and arg[0]:find("languages%.lua$") and arg[1] == "--write" then
  local handle = assert(io.open("docs/testing.md", "rb"))
  local page = handle:read("*a")
  handle:close()
  page = languages.page_with(page, languages.table())
  handle = assert(io.open("docs/testing.md", "wb"))
  handle:write(page)
  handle:close()
end

return languages
