"""The command `mvd`: the daemon run once, and views of what it does.

main       the command itself, its exit codes, and how an error is shown
run        run, sync                        kong      kong dump, adopt, forget (adoption: what adopt does)
plan       plan, explain                    validate  validate
status     status, history, logs            docs      docs
hold       suspend, resume, retry           doctor    doctor
install    install                          schema    schema
imports    import                           notify    notify
output     tables and JSON                  server    settings, and what they connect to

Each module imports Docker, Git and HTTP inside its commands, so that `--help`, `validate` and `docs` need none of them.
May import every room.  Nothing imports it.
"""
