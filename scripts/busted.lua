-- Runs busted under the interpreter that runs this file: the `busted` command
-- picks its own, by a first line that differs from system to system.
require "busted.runner" { standalone = false }
