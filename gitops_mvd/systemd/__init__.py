"""The one client of systemd, and the text of a unit.

client      D-Bus: units, jobs, the journal       unit   the text of a unit and what such a text says of itself

May import `core`.  Only this room imports `jeepney`.  Must not know what a unit runs.
"""
