"""The settings of one server, and what every reader of YAML here works with.  Pure.

settings    `/etc/gitops-mvd/config.yaml`, read strictly      origin    a repository's address -> its forge and API
yamltree    YAML with the line of every value                 tables    keys, what each does, how it is read
readers     readers of values: durations, ports, words

May import `core`.  Must not know Compose or the config repository, and reads no file itself: the caller does.
"""
