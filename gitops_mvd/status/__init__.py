"""Commit statuses: from the result of a pass on this host to a status on a forge.

statuses       which commit has which status now              status_text   the words of a status, of a report
changes        what each commit changes on this host          debounce      health counts once it has lasted
fleet          each host, by what it has posted               wave_status   what its hosts make of a wave
outbox         sends statuses, and retries them               verdict       what a pull request would do here
pull_requests  shows that on each that is open
notices        what is news for people                        notice_text   the message that notices become
notifier       queues it for each receiver                    deliveries    sends it, and tries again

May import `core`, `git`, `manifest`, `state` and the port of forges.  Must not know kinds, Docker, systemd or Kong, and
of probes only how a plan shows them.
"""
