"""The settings of one server, and what every reader of YAML here works with.  Pure.

settings    `/etc/gitops-mvd/config.yaml`, read strictly
yamltree    YAML with the line of every value                 tables    keys, what each does, how it is read
readers     readers of values: durations, ports, words

May import `core` and, for which forges there are, `forges`.  Must not know Compose or the config repository, and reads
no file itself: the caller does.
"""
