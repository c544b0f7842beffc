"""The one client of the Docker engine, and what a service is to it.

client      `Engine`, which is all of these:            connection  sessions, and what a failure of one means
containers  listed, inspected, asked, removed           container   one container: exec, stat, how it ended
images      pinned, pulled, tagged, removed             networks    and volumes
events      followed, so that listings can be cached    cache       answers that hold until an event says otherwise
types       the answers of the API, typed               answers     errors, references and containers read from them
create      a service -> the words of `docker create`

May import `core`.  Only this room imports the `docker` library.  Must not know systemd, Kong or Compose files.
"""
