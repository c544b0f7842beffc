"""A Kong that serves already: written as files of a repository, and taken over in place.

dump        what a Kong has -> Kong's declarative format, or `x-kong`
adopt       which entities become managed, and what changes in them by that
foreign     both, for people

May import the rest of `kong`, and `manifest` to read back what it writes.
"""
