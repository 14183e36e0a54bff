-- Turns the annotated types (LuaLS) into comments for ldoc, one file a class, so
-- that an editor's help and the HTML reference come from one text.
--
-- usage: reference.lua TYPES.lua OUTPUT-FOLDER
--
-- A class with functions is a module, one with methods or only fields a class;
-- aliases share a page. What LuaLS can say and ldoc can't (function types, literal
-- values) goes into the text.

-- Types ----------------------------------------------------------------------

local PAIRS = { ["("] = "%b()", ["{"] = "%b{}", ["["] = "%b[]", ["<"] = "%b<>" }

-- The position behind the balanced group that starts at `at`.
local function group_end(text, at)
  local _, last = text:find(PAIRS[text:sub(at, at)], at)
  return (last or error("unbalanced type: " .. text)) + 1
end

local type_end

-- The position behind `: a, b`, the results of a function type, if they are there.
local function results_end(text, at)
  local start = text:match("^%s*:%s*()", at)
  while start do
    at = type_end(text, start)
    start = text:match("^%s*,%s*()", at)
  end
  return at
end

local function term_end(text, at)
  local first = text:sub(at, at)
  if first == '"' or first == "'" then
    return (text:find(first, at + 1, true) or error("open quote: " .. text)) + 1
  elseif PAIRS[first] then
    return group_end(text, at)
  end
  local after = text:match("^%.%.%.()", at) or text:match("^[%w_%-%*][%w_%.%-%*]*()", at)
  if not after then error("no type in: " .. text) end
  local following = text:sub(after, after)
  if following == "(" and text:sub(at, after - 1) == "fun" then
    return results_end(text, group_end(text, after))
  elseif following == "<" then
    return group_end(text, after)
  end
  return after
end

-- The position behind the type at `at`: terms with suffixes, joined by bars.
function type_end(text, at)
  local bar = at
  while bar do
    at = term_end(text, bar)
    local suffix = at
    while suffix do
      at, suffix = suffix, text:match("^%[%]()", suffix) or text:match("^%?()", suffix)
    end
    bar = text:match("^%s*|%s*()[^%s|]", at)
  end
  return at
end

local function trim(text)
  return (text:gsub("^%s+", ""):gsub("%s+$", ""))
end

local function split_type(text)
  local after = type_end(text, 1)
  return text:sub(1, after - 1), trim(text:sub(after))
end

-- The terms of a union, and whether nil is one of them.
local function union(text)
  local terms, optional, at = {}, false, 1
  while at do
    local after = term_end(text, at)
    local _, suffix = text:find("^[%[%]]*", after)
    local term = text:sub(at, suffix)
    after = suffix + 1
    if text:sub(after, after) == "?" then
      optional, after = true, after + 1
    end
    if term == "nil" then optional = true else terms[#terms + 1] = term end
    at = text:match("^%s*|%s*()", after)
  end
  return terms, optional
end

-- The names that are explained on the page `types`, filled by `link`.
local aliases = {}

local function short(name)
  return (name:gsub("cotls%.", ""))
end

local function reference(name)
  name = short(name)
  return aliases[name] and "types." .. name or name
end

-- What ldoc shows for one term, and whether that hides something.
local function plain_term(term)
  if term:match("^['\"]") then return "string", true end
  if term:match("^fun") then return "function", term:find("(", 1, true) ~= nil end
  if term:match("^[{]") or term:match("^table<") then return "table", true end
  if term:match("^%(") then return "table", true end
  local element = term:match("^([%w_%.]+)%[%]$")
  if element then return "{" .. reference(element) .. ",...}", false end
  if term:find("[", 1, true) then return "table", true end
  return reference(term), false
end

-- ldoc's type, whether it may be nil, and the full one as text where ldoc's says less.
local function ldoc_type(text)
  local terms, optional = union(text)
  local names, seen, hidden = {}, {}, false
  for _, term in ipairs(terms) do
    local name, hides = plain_term(term)
    hidden = hidden or hides
    if not seen[name] then
      seen[name], names[#names + 1] = true, name
    end
  end
  return table.concat(names, "|"), optional, hidden and "`" .. short(table.concat(terms, " | ")) .. "`" or ""
end

-- Reading --------------------------------------------------------------------

-- A tag's continuation is indented by more than the space behind the dashes.
local function read_block(lines)
  local entries, last = {}, nil
  for _, line in ipairs(lines) do
    local tag, rest = line:match("^%s?@(%a+)%s*(.*)$")
    if tag then
      last = { tag = tag, text = rest }
      entries[#entries + 1] = last
    elseif line:match("^%s?|") then
      entries[#entries + 1] = { tag = "value", text = trim(line:match("|(.*)")) }
    elseif last and line:match("^%s%s+%S") then
      last.text = last.text .. " " .. trim(line)
    else
      last = nil
      entries[#entries + 1] = { tag = "line", text = (line:gsub("^%s", "", 1)) }
    end
  end
  return entries
end

local function named(text)
  local name, mark, rest = text:match("^([%w_%.]+)(%??)%s+(.*)$")
  if not name then error("no name and type in: " .. text) end
  local kind, words = split_type(rest)
  return { name = name, optional = mark == "?", type = kind, text = words:gsub("^#%s*", "") }
end

local READ = {}

function READ.param(item, text)
  item.params[#item.params + 1] = named(text)
end

READ["return"] = function(item, text)
  local kind, words = split_type(text)
  item.returns[#item.returns + 1] = { type = kind, text = (words:gsub("#%s*", "", 1)) }
end

function READ.overload(item, text)
  item.lines[#item.lines + 1] = ""
  item.lines[#item.lines + 1] = "Also: `" .. short(text) .. "`"
end

function READ.see(item, text)
  item.lines[#item.lines + 1] = ""
  item.lines[#item.lines + 1] = "See " .. (text:match("^[%w_%.:]+$") and "`" .. short(text) .. "`" or text)
end

function READ.deprecated(item, text)
  item.lines[#item.lines + 1] = ""
  item.lines[#item.lines + 1] = "**Deprecated.** " .. text
end

function READ.line(item, text)
  item.lines[#item.lines + 1] = text
end

local function read_function(entries, name, arguments)
  local item = { name = name, arguments = arguments, lines = {}, params = {}, returns = {} }
  for _, entry in ipairs(entries) do
    local read = READ[entry.tag]
    if read then read(item, entry.text) end
  end
  return item
end

local FIELD_SCOPES = { public = true, private = true, protected = true, package = true }

local function read_field(class, text, lines)
  local scope, rest = text:match("^(%a+)%s+(.*)$")
  if FIELD_SCOPES[scope] then text = rest end
  if scope == "private" or scope == "protected" or scope == "package" then return end
  local key = text:match("^%b[]")
  local field
  if key then
    local kind, words = split_type(trim(text:sub(#key + 1)))
    -- ldoc takes brackets for its own.
    field = { name = "any_" .. key:match("[%w_]+"), type = kind, text = words }
  else
    field = named(text)
  end
  if #lines > 0 then field.text = trim(table.concat(lines, " ") .. " " .. field.text) end
  class.fields[#class.fields + 1] = field
end

-- Declarations of one comment: classes with their fields, aliases. Plain lines
-- go to the tag below them, those at the end to the class.
local function read_declarations(doc, entries)
  local lines, class, alias = {}, nil, nil
  for _, entry in ipairs(entries) do
    local text = entry.text
    if entry.tag == "line" then
      lines[#lines + 1] = text
    elseif entry.tag == "class" then
      local name, parents = text:gsub("^%(%a+%)%s*", ""):match("^([%w_%.]+)%s*:?%s*(.*)$")
      class = { name = name, parents = parents, lines = lines, fields = {}, functions = {} }
      doc.classes[#doc.classes + 1] = class
      lines, alias = {}, nil
    elseif entry.tag == "field" and class then
      read_field(class, text, lines)
      lines = {}
    elseif entry.tag == "alias" then
      local name, rest = text:match("^([%w_%.]+)%s*(.*)$")
      alias = { name = name, lines = lines, fields = {} }
      if rest ~= "" then alias.type, alias.text = split_type(rest) end
      doc.aliases[#doc.aliases + 1] = alias
      lines = {}
    elseif entry.tag == "value" and alias then
      local value, words = text:match("^(.-)%s*#%s*(.*)$")
      value = trim(value or text)
      alias.fields[#alias.fields + 1] = { name = value:match("^'(.*)'$") or value, text = words or "" }
    end
  end
  local owner = class or alias
  if owner then
    for _, line in ipairs(lines) do owner.lines[#owner.lines + 1] = line end
  end
  return class
end

local function is_declaration(entries)
  for _, entry in ipairs(entries) do
    if entry.tag == "class" or entry.tag == "alias" then return true end
  end
end

-- `name.field = value` below a comment with @type.
local function read_value(class, name, entries)
  local words, kind = {}, nil
  for _, entry in ipairs(entries) do
    if entry.tag == "type" then
      local rest
      kind, rest = split_type(entry.text)
      words[#words + 1] = rest
    elseif entry.tag == "line" then
      words[#words + 1] = entry.text
    end
  end
  if kind then
    class.fields[#class.fields + 1] = { name = name, type = kind, text = trim(table.concat(words, " ")) }
  end
end

-- What a comment says about the code `line` below it.
local function read_code(variables, line, entries, class)
  local owner, mark, name, arguments = line:match("^function%s+([%w_%.]-)([%.:])([%w_]+)%s*%((.-)%)")
  if owner then
    local target = variables[owner] or error("no class for: " .. line)
    local item = read_function(entries, owner .. mark .. name, arguments)
    target.functions[#target.functions + 1] = item
    target.is_module = target.is_module or mark == "."
    return
  end
  local variable = line:match("^local%s+([%w_]+)%s*=") or line:match("^([%w_%.]+)%s*=")
  if not variable then return end
  if class then
    variables[variable] = class
    return
  end
  local table_name, field = variable:match("^(.*)%.([%w_]+)$")
  if variables[table_name] then read_value(variables[table_name], field, entries) end
end

local function read(path)
  local doc, variables, block = { classes = {}, aliases = {} }, {}, {}
  local class
  local function flush()
    local entries = read_block(block)
    if is_declaration(entries) then class = read_declarations(doc, entries) end
    block = {}
    return entries
  end
  for line in io.lines(path) do
    local comment = line:match("^%s*%-%-%-(.*)$")
    if comment then
      block[#block + 1] = comment
    else
      class = nil
      local entries = flush()
      if line:match("%S") then read_code(variables, line, entries, class) end
    end
  end
  flush()
  return doc
end

-- Text -----------------------------------------------------------------------

-- Where code that names a page or a function leads to, filled by `main`.
local links = {}

-- An at sign before a brace, or at the start of a line, would be ldoc's.
local ESCAPES = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ["@"] = "&#64;" }

local function escape(text)
  return (text:gsub("[&<>@]", ESCAPES))
end

local function code(text)
  local target = links[text] or links[short(text)] or links[text:match("^([%w_%.:]+)%(")]
  local html = "<code>" .. escape(text) .. "</code>"
  return target and ('<a href="../%s">%s</a>'):format(target, html) or html
end

-- Markdown within a line: code, bold, links.
local function inline(text)
  local codes = {}
  text = text:gsub("`([^`]+)`", function(inner)
    codes[#codes + 1] = code(inner)
    return "\0" .. #codes .. "\0"
  end)
  text = escape(text):gsub("%*%*(.-)%*%*", "<strong>%1</strong>")
  text = text:gsub("%[([^%]]+)%]%((%a+://[^%s%)]+)%)", '<a href="%2">%1</a>')
  return (text:gsub("%z(%d+)%z", function(index) return codes[tonumber(index)] end))
end

-- Markdown's blocks: paragraphs, lists, fenced code. ldoc makes a paragraph of an
-- empty line, so there is none within code.
local function markup(lines)
  local out, inside, listed = {}, false, false
  local function put(text) out[#out + 1] = text end
  for _, line in ipairs(lines) do
    local item = line:match("^%s*[%*%-]%s+(.*)$")
    if line:match("^%s*```") then
      inside = not inside
      put(inside and "<pre>" or "</pre>")
    elseif inside then
      put(line == "" and "&nbsp;" or escape(line))
    elseif item then
      put((listed and "" or "<ul>") .. "<li>" .. inline(item))
      listed = true
    elseif listed and (line == "" or not line:match("^%s")) then
      put("</ul>")
      listed = false
      put(inline(line))
    else
      put(inline(line))
    end
  end
  if listed then put("</ul>") end
  return out
end

local function comment(out, lines)
  for _, line in ipairs(lines) do
    out[#out + 1] = ("-- " .. line):gsub("%s+$", "")
  end
end

-- ldoc takes the first sentence as the summary and needs one.
local function head(out, lines, otherwise)
  lines = markup(lines)
  while lines[1] == "" do table.remove(lines, 1) end
  out[#out + 1] = "--- " .. (table.remove(lines, 1) or otherwise)
  comment(out, lines)
end

-- Writing --------------------------------------------------------------------

local function join(...)
  local words = {}
  for _, word in pairs { ... } do
    if word ~= "" then words[#words + 1] = word end
  end
  return table.concat(words, " ")
end

local function write_named(out, tag, item)
  local kind, optional, full = ldoc_type(item.type)
  optional = optional or item.optional
  if optional and tag == "tparam" then
    tag = "tparam[opt]"
  elseif optional then
    kind = "?|" .. kind
  end
  out[#out + 1] = "-- @" .. join(tag, kind, item.name, inline(join(item.text, full)))
end

local function write_result(out, item)
  local kind, optional, full = ldoc_type(item.type)
  if optional then kind = kind == "" and "nil" or kind .. "|nil" end
  out[#out + 1] = "-- @" .. join("treturn", kind, inline(join(item.text, full)))
end

local function write_function(out, item)
  head(out, item.lines, item.name)
  for _, param in ipairs(item.params) do
    if param.name ~= "self" then write_named(out, "tparam", param) end
  end
  for _, result in ipairs(item.returns) do write_result(out, result) end
  out[#out + 1] = ("function %s(%s) end"):format(item.name, item.arguments)
  out[#out + 1] = ""
end

local function write_fields(out, class)
  if #class.fields == 0 then return end
  out[#out + 1] = "--- Fields of " .. short(class.name) .. "."
  out[#out + 1] = "-- @table fields"
  for _, field in ipairs(class.fields) do write_named(out, "tfield", field) end
  out[#out + 1] = ""
end

local function class_text(class)
  local out = {}
  head(out, class.lines, short(class.name) .. ".")
  if class.parents ~= "" then
    comment(out, { "", inline("With all of `" .. short(class.parents):gsub(",%s*", "`, `") .. "`.") })
  end
  out[#out + 1] = "-- @" .. (class.is_module and "module " or "classmod ") .. short(class.name)
  out[#out + 1] = ""
  write_fields(out, class)
  for _, item in ipairs(class.functions) do write_function(out, item) end
  return table.concat(out, "\n") .. "\n"
end

-- Aliases, and classes of which nothing is known, share a page.
local function types_text(items)
  local out = { "--- Names of values that several functions take or give.", "-- @script types", "" }
  for _, alias in ipairs(items) do
    local lines = { table.unpack(alias.lines) }
    if #lines == 0 then lines[1] = short(alias.name) .. "." end
    if alias.type then
      lines[#lines + 1] = ""
      lines[#lines + 1] = "`" .. short(alias.type) .. "` " .. alias.text
    end
    for _, value in ipairs(alias.fields) do
      lines[#lines + 1] = "* " .. join("`" .. value.name .. "`", value.text)
    end
    head(out, lines, alias.name)
    out[#out + 1] = "-- @table " .. short(alias.name)
    out[#out + 1] = ""
  end
  return table.concat(out, "\n") .. "\n"
end

local function write_file(folder, name, text)
  local file = assert(io.open(folder .. "/" .. short(name) .. ".lua", "w"))
  assert(file:write(text))
  assert(file:close())
end

-- Classes without anything in them become plain names.
local function sort_out(doc)
  local classes = {}
  for _, class in ipairs(doc.classes) do
    local bare = #class.fields + #class.functions == 0
    table.insert(bare and doc.aliases or classes, class)
  end
  doc.classes = classes
end

local function link(doc)
  for _, class in ipairs(doc.classes) do
    local name = short(class.name)
    local page = (class.is_module and "modules/" or "classes/") .. name .. ".html"
    links[name] = page
    for _, item in ipairs(class.functions) do links[item.name] = page .. "#" .. item.name end
  end
  for _, alias in ipairs(doc.aliases) do
    aliases[short(alias.name)] = true
    links[short(alias.name)] = "types/types.html#" .. short(alias.name)
  end
end

local function main(path, folder)
  local doc = read(path)
  sort_out(doc)
  if #doc.classes == 0 then error("no classes in " .. path) end
  link(doc)
  for _, class in ipairs(doc.classes) do write_file(folder, class.name, class_text(class)) end
  if #doc.aliases > 0 then write_file(folder, "types", types_text(doc.aliases)) end
end

main(assert(arg[1], "usage: reference.lua TYPES.lua FOLDER"), assert(arg[2], "no folder"))
