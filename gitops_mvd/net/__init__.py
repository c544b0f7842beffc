"""The network as this machine sees it: connections with a limit, and what the kernel counts.

line         sockets on which a whole exchange has a limit   http, adapter   how urllib3 and requests use them
own_address  which addresses are this machine's own          traffic         bytes and connections, from /proc
reasons      why a request failed, in the system's words

Imports no other room.  Must not know what is asked over a connection, nor of whom.
"""
