"""Scripts and functions in Lua: the cache of scripts, the libraries of functions, and the Lua they run in."""
