-- tree-bcast.lua - loads the shell plugin for jobs that ask for it
--
-- Sourced by flux-shell: from a folder of FLUX_SHELL_RC_PATH, from Flux's own
-- lua.d, as userrc, or by several of them. A job without the option tree-bcast
-- pays nothing but the reading of this file.

if shell.options["tree-bcast"] == nil then return end

local here = debug.getinfo (1, "S").source:match ("^@(.*)/[^/]*$") or "."
if not here:match ("^/") then here = "./" .. here end
local plugin_file = here .. "/../_plugin.abi3.so"

tree_bcast_loaded = tree_bcast_loaded or {}
if tree_bcast_loaded[plugin_file] then return end
tree_bcast_loaded[plugin_file] = true

local file, reason = io.open (plugin_file)
if not file then
    shell.die ("tree-bcast: no plugin (" .. reason
               .. "): 'flux-tree doctor' on this node says how to mend it")
end
file:close ()

-- flux-shell takes the name as a pattern of glob (3); the parentheses drop gsub's second value
plugin.load ((plugin_file:gsub ("[%[%]*?\\]", "\\%0")))
