std = "lua54"
max_line_length = 160
files["tests/**/*_spec.lua"] = { std = "lua54+busted" }
files["scripts/busted.lua"] = { globals = { "arg" } }   -- busted reads its options there
