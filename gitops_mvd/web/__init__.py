"""The page: what the daemons of one or several servers answer, as HTML that keeps itself up to date.

A process of its own, without root and without the Docker socket: it knows the local API, the settings and the words of
the model, and nothing of Docker, Git, systemd or the state.  One event loop serves all browsers; what a daemon is asked
is asked once, however many look at it.

host       one server: its last answers, and since when it is silent
live       pages and their changes, for any number of browsers
logs       what containers print, followed once and shown to many
pages      what each page shows
site       the addresses, and how an error looks
guard      who is let in, and who may act
connection what a browser may take of the process
fleet      several servers, by ssh or https
"""
