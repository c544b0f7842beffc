"""The config repository: one branch of it, mirrored and fetched shallow, and its files read at a commit.

branch      which commit is followed or refused, and the commits since: `Source`
guard       which commits need a signature, and the tags that may carry it      signatures  is a signature good?
anchor      the commit followed last, in a file outside the mirror              merges      pull requests as if merged
mirror      a bare repository on this disk: fetched, locked, checked, rebuilt   tree        the files at a commit
command     git, apart from the machine's own settings                          objects     one object after the other
child       a program with limits of time, memory and output                    address     URLs, and errors of git
checkout    a clone on somebody's computer, read with their own login           trailers    of a commit's message

May import `core`, `config` and `state`.  Must not know forges, or what a file means.  There is no work tree, so nothing
of the repository is ever checked out, linked to or run.
"""
