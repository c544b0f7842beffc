"""What this server keeps in files, as it does not follow from what runs.

history     versions that worked or failed, statuses      database      SQLite with migrations
lock        one `mvd` at a time                           suspension    a server that is left alone
files       written temp, fsync, rename               folders       of apps, which hold data
versions    what versions of apps are made of         reports       a report as JSON
notices     what people are notified of

May import `core`.  Losing the folder of the state disrupts nothing: the next pass finds everything again.
"""
