"""The command line: everything that knows arguments, standard streams and exit codes."""
