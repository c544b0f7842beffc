"""The command `mvd`: it asks the daemon or, without one, looks for itself.

main       the command itself, its exit codes, and how an error is shown
commands   the list of the commands by task, each with its module: status, logs, history, plan, sync, ...
daemon_api the daemon, if it runs with the same settings     look        what commands find out without it
host_text  the server as lines         table     tables that fit a terminal         progress  steps as they go
output     colours, JSON, times        server    settings, and what they connect to
completion what shells complete        checks    those of `mvd doctor`              adoption  what `mvd adopt` does
log_lines  the daemon's log as text    ecs       ... as JSON of the Elastic Common Schema
watching   what `--watch` shows
starter    what `mvd init` writes      machine   those about this machine           finding   what one found
packaged   the Debian package          manual    the pages of `mvd docs`

Each module is imported when its command is called.  Those that ask the daemon import `api` and `core` alone: what looks
without it (Docker, Git, HTTP, settings) is imported inside the command.
May import every room.  Nothing imports it.
"""
