"""A Kong that serves already: written as files of a repository, and taken over in place.

dump        the unmanaged entities -> Kong's declarative format, or `x-kong`
accepted    what `mvd validate` accepts of that
yaml_text   YAML as a person would write it
adopt       which entities become managed, and what changes in them by that
export      dump and adopt for people: files, lines, JSON

May import the rest of `kong`, and `manifest` to read back what it writes.  Must not know the command line.
"""
