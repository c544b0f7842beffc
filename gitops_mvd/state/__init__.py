"""What this server keeps in files, as it does not follow from what runs.

history     versions that worked or failed, statuses      database    SQLite whose loss stops nothing
operations  what was changed, step by step                notices     what people are notified of
versions    what versions of apps are made of             reports     a report as JSON
commits     which commit an instance is of                suspension  an app or a server that is left alone
files       written temp, fsync, rename                   folders     of apps, which hold data
lock        one `mvd` at a time                           task_ports  where tasks of a Swarm were seen

May import `core`, `config` and the views of `api`.  Losing the folder of the state disrupts nothing: the next pass
finds everything again.
"""
