"""Which commit is told what: from a result on this host to a status on a forge.

report      a result -> the words of a status            statuses       which commit has which status now
changes     what each commit changes on this host        outbox         delivers them, for as long as it takes
debounce    is it healthy, steadily?                     pull_requests  what an open pull request would do here

May import the repository, the state and the forges' port.  Must not know kinds, Docker,
systemd or Kong, and of probes only how a plan shows them.
"""
