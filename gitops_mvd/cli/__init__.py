"""The command `mvd`: the daemon run once, and windows on what it does.

May import every room.  Nothing imports it.
"""
