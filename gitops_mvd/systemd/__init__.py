"""systemd: asked over D-Bus, and the texts and files of its units.

client      every question and order to systemd         unit        the text of a unit, and what such a text says
bus         its connection, and what its errors mean    unit_files  the unit files on this host
programs    journalctl and systemd-analyze              overrides   drop-ins, and files that come before a unit's own
journal_lines  what containers printed, line by line

May import `core`, `net`, `state` and the views of `api`.  Only this room imports the D-Bus library.  Must not know
Docker, Kong or Compose files.
"""
