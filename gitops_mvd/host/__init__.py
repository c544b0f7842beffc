"""This machine: what was found on it, carrying out steps, waiting at gates, and judging health.

machine     the Host port over real kinds       gates    waits until what was made is healthy, and what leaves is idle
monitor     asks what runs, now and then, whether it is still healthy
disruption  whether Docker or the server went meanwhile, so that a failure says nothing about a version

May import kinds, the clients and everything below.  Must not know commits, forges or where a result is reported.
"""
