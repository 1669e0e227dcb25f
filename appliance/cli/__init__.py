"""The command line: argv, environment and files come in here, once, and become `Settings`.

Each command is in a module that is loaded only when the command is given: `redtap --help` loads none.
"""

__all__: list[str] = []
