"""The local API: what the daemon tells of this server, and what it may be asked to do, over a unix socket.

`views` has the answers, `endpoints` the questions, `description` both as OpenAPI; `questions` reads a request, `client`
asks.  Whoever asks, `mvd` or `mvd web`, needs no more than this room: neither Docker nor Git nor the settings.
"""
