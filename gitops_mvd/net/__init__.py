"""The network as this machine sees it: connections with one deadline, and what the kernel counts.

dial         a TCP connection on which everything is over by a deadline     traffic   bytes and connections, from /proc
own_address  which addresses are this machine's own

Imports no other room.  Must not know what is asked over a connection, nor of whom.
"""
