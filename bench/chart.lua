-- SPDX-License-Identifier: MIT
--
-- Draws results.csv as an SVG: a group of bars for each scenario, a bar for each server, as long as its ratio
-- to the yardstick. The same CSV gives the same bytes. Colours are of middle brightness, so that the picture
-- can be read on a white page and on a black one without knowing which it is on.
-- Called as: chart.lua results.csv results.svg

local compat = require "cotls.compat"

local source, target = ...

local TEXT, AXIS = "#6e7781", "#8c959f"
local COLOURS = {
  cotls = "#1f83e0",
  ["cotls-hooks"] = "#5aa5ea", ["cotls-remote-key"] = "#95c6f3", ["cotls-cqueues"] = "#0b4f99",
  ["cotls-stream"] = "#3ba7c4",
  ["luaossl-cqueues"] = "#d9822b", ["luasec-select"] = "#2f9e6e", ["luasec-luv"] = "#7bbf3f",
  ["luasec-blocking"] = "#b39b1e", node = "#b65fc9", ["drop-in-select"] = "#1f6e4e", ["drop-in-luv"] = "#55882b",
  ["drop-in-blocking"] = "#7d6c14",
}
local OTHER = "#8c959f"

local WIDTH, LEFT, RIGHT, TOP = 860, 190, 60, 70
local BAR, GAP, GROUP_GAP = 13, 3, 16
local LONGEST = 3 -- ratios beyond it are drawn this long, with their number beside them

-- A CSV as load writes it: fields without commas, the first in quotes.
local function read_rows(path)
  local rows = {}
  for line in io.lines(path) do
    local scenario, server, ratio, least, most =
      line:match('^"([^"]*)",([^,]*),[^,]*,[^,]*,([^,]*),([^,]*),([^,]*),')
    if scenario then
      rows[#rows + 1] = {
        scenario = scenario, server = server, ratio = tonumber(ratio),
        least = tonumber(least), most = tonumber(most),
      }
    end
  end
  return rows
end

-- Scenarios in the order of the file, without the yardstick: it is the line at 1.
local function group_rows(rows)
  local groups, by_name = {}, {}
  for _, row in ipairs(rows) do
    local group = by_name[row.scenario]
    if not group then
      group = { name = row.scenario }
      by_name[row.scenario] = group
      groups[#groups + 1] = group
    end
    if row.server ~= "yardstick" then group[#group + 1] = row end
  end
  return groups
end

local function escape(text)
  return (text:gsub("[&<>]", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;" }))
end

local function x_of(ratio)
  return LEFT + math.min(ratio, LONGEST) / LONGEST * (WIDTH - LEFT - RIGHT)
end

local out = {}

local function put(format, ...)
  out[#out + 1] = format:format(...)
end

local function text(x, y, anchor, size, words)
  put('<text x="%.1f" y="%.1f" text-anchor="%s" font-size="%d" fill="%s">%s</text>', x, y, anchor, size, TEXT,
    escape(words))
end

local function draw_bar(row, y)
  local colour = COLOURS[row.server] or OTHER
  local x = x_of(row.ratio)
  put('<rect x="%d" y="%.1f" width="%.1f" height="%d" rx="2" fill="%s"/>', LEFT, y, x - LEFT, BAR, colour)
  if row.ratio > LONGEST then -- two slanted cuts: this bar goes on
    for cut = 1, 2 do
      put('<path d="M%.1f %.1f l5 %d" stroke="%s" stroke-width="2"/>', x - 12 * cut, y, BAR, "#ffffff")
    end
  else
    put('<path d="M%.1f %.1f H%.1f" stroke="%s" stroke-width="1.5"/>', x_of(row.least), y + BAR / 2,
      x_of(row.most), TEXT)
  end
  text(math.max(x, x_of(row.most)) + 5, y + BAR - 2.5, "start", 11, ("%.2f"):format(row.ratio))
end

local function draw_group(group, y)
  local height = #group * (BAR + GAP) - GAP
  text(LEFT - 10, y + height / 2 + 4, "end", 12, group.name)
  for i, row in ipairs(group) do draw_bar(row, y + (i - 1) * (BAR + GAP)) end
  return y + height + GROUP_GAP
end

local function draw_legend(rows)
  local seen, x = {}, LEFT
  for _, row in ipairs(rows) do
    if row.server ~= "yardstick" and not seen[row.server] then
      seen[row.server] = true
      put('<rect x="%d" y="38" width="10" height="10" rx="2" fill="%s"/>', x, COLOURS[row.server] or OTHER)
      text(x + 14, 47, "start", 11, row.server)
      x = x + 28 + 6 * #row.server
    end
  end
end

local function draw_axis(bottom)
  for ratio = 0, LONGEST do
    local x = x_of(ratio)
    local one = ratio == 1
    put('<path d="M%.1f %d V%.1f" stroke="%s" stroke-width="%s"%s/>', x, TOP - 6, bottom, one and TEXT or AXIS,
      one and "1.5" or "0.5", one and "" or ' stroke-dasharray="2 3"')
    text(x, bottom + 14, "middle", 11, one and "yardstick" or tostring(ratio))
  end
end

local function draw(rows)
  local groups = group_rows(rows)
  local y = TOP
  draw_legend(rows)
  local before_bars = #out
  for _, group in ipairs(groups) do
    if #group > 0 then y = draw_group(group, y) end
  end
  local bars = compat.move(out, before_bars + 1, #out, 1, {})
  for i = #out, before_bars + 1, -1 do out[i] = nil end
  draw_axis(y)
  compat.move(bars, 1, #bars, #out + 1, out)
  return y + 24
end

local rows = read_rows(source)
local height = draw(rows)
local head = ([[
<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img"
 font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif">
<title>Cost of TLS servers as a ratio to a plain C server; shorter is better</title>
<text x="%d" y="24" font-size="14" font-weight="600" fill="%s">%s</text>
]]):format(WIDTH, height, WIDTH, height, LEFT, TEXT,
  "Server CPU per operation, memory per connection: ratio to plain C (shorter is better)")

local file = assert(io.open(target, "w"))
assert(file:write(head, table.concat(out, "\n"), "\n</svg>\n"))
assert(file:close())
