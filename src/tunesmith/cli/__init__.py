"""The command line: one file for each command. Loads no torch until a command starts a journey."""
