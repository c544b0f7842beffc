"""One Kong with a database for several hosts, under one name (`kong.shared`).

    shared by all hosts       service, routes, plugins, upstream, consumers, ...: tag `shared:NAME`
    of one host               the targets of its instances: tags `host:HOST` and `instance:...`; while it judges a
                              canary, the plugin by which Kong tells it of the requests

A target is its host's claim to the service: it is created before what is shared, as soon as there is an upstream, and
deleted last.  So what is shared exists as long as any host needs it, and the last host deletes it.  What belongs to no
service (the folder `kong/`) has an upstream that nothing leads to, with one target of weight 0 for each host.

Hosts may follow different commits during a rollout.  The upstream therefore carries, in its tag `said:`, which host
last applied what is shared, at which commit.  A host with an older commit, or held at an older version, leaves what is
shared as it finds it and writes its targets alone.  No host remembers another, and none waits for one: whoever writes
observes again until everything is as it should be.

precedence  which host's commit decides, and the tag `said:`
entities    what is declared, as the entities that all hosts share and those of one host
changes     what differs for one service
judging     whose turn it is to judge a canary
store       what a shared Kong holds, as one of its hosts sees it, and how that host changes it

May import the rest of `kong` but `client` and `migrate`.  Must not know Git: the commits come by a protocol.
"""
