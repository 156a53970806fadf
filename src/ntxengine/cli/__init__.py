"""The command line `ntx`: parse, call one use case, print, choose the exit code.  Nothing a library user would need."""
