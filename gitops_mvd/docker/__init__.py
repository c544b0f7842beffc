"""The one client of the Docker engine, and what a service is to it.

client      every question and order to the engine         answers   its errors, labels and containers, in our words
create      a service -> the words of `docker create`       container what is asked of one container: exec, stat, events
cache       answers that hold until an event says otherwise

May import `core`.  Only this room imports the `docker` library.  Must not know systemd, Kong or Compose files.
"""
