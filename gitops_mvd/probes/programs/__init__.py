"""What a probe runs in a process of its own: it is given JSON, prints JSON, and imports nothing of gitops-mvd.

So it costs the daemon no memory, and takes it down or keeps it waiting in no case.
"""
