-- Runs busted inside espq itself, for builds that no other interpreter can load.
package.path = "./tests/?.lua;/usr/share/lua/5.4/?.lua;/usr/share/lua/5.4/?/init.lua;" .. package.path
arg = { [0] = "busted", "--ignore-lua", "--output=plainTerminal", table.unpack(arg) }
require "busted.runner" { standalone = false }
