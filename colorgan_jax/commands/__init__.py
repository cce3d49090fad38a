"""The commands of `colorgan`, a module each.

`add_parser` adds the command and its options to the parser; `options.run(options)` then
runs it and returns the exit status.
"""
