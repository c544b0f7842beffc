"""The one client of Kong's Admin API, for both of its modes, and Kong's entities as values.

client      one Kong: what it holds that is managed, and how that is changed    ask      does a route lead to a service?
wire, admin HTTP, and the Admin API's pages and errors                          boot     Kong's declarative start file
document    without a database: one document           database  with one: entity by entity, in order
entities, declare, compare, clashes, schema            what an entity is, wanted and found, and when it is in the way
shared, precedence                                     one Kong of several hosts
migrate/                                               a Kong that serves already

May import `manifest`, `state` and `core`.  Must not know Docker, systemd or where a route's instances come from.
"""
