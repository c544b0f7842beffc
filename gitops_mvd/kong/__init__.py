"""The one client of Kong's Admin API, for both of its modes, and Kong's entities as values.

client                 one Kong: what it holds that is managed, and how that is changed
pace                   what Kong's own settings cost a deploy
counting, counted      what Kong tells of the requests of a service, and by which plugin
route_proof            a request through Kong that proves where a route leads
transport, admin       HTTP; the Admin API's pages and errors
together               what several apps want of it at the same time, done once
document, start_file   without a database: one document, and the declarative file that Kong starts from
database               with one: entity by entity, in order
entities, declare, compare, clashes, schema, adopted_ids
                       what an entity is, wanted and found, and when it is in the way
shared/                one Kong of several hosts
migrate/               a Kong that serves already

May import `manifest`, `state` and `core`.  Must not know Docker, systemd or where a route's instances come from.
"""
