"""One Kong with a database for many hosts: each owns its targets, and all of them share the rest.

precedence  which host's commit decides what all of them share
store       what such a Kong holds, as one of its hosts sees it, and how a host changes it

May import the rest of `kong` but `client` and `migrate`.
"""
