"""The config repository: one branch of it, mirrored and fetched shallow, and its files read at a commit.

    branch.py      which commit is taken, which is refused, and what came since: `Source`
    guard.py       which commits need a signature before that, and the tags that may carry it
    signatures.py  whether a signature is good
    anchor.py      the commit that was taken last, written down where it outlives the mirror
    merges.py      pull requests as they would be once they were merged
    mirror.py      a repository of ours on this disk: fetched into, locked, checked, read, made anew
    command.py     git itself, run away from the machine's own settings
    address.py     what a URL may be, and what it means when git complains of it

There is no work tree, so nothing of the repository is ever checked out, linked to or run.  Nothing is imported here:
`tree` alone, which `mvd validate` needs, does without GitPython.
"""
