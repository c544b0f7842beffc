"""`make bench`: what it costs, each figure beside its yardstick, measured in the same run."""

PARTS = ("noop", "api", "fleet", "waves", "hang", "kong", "server", "statuses", "traffic", "outage", "chaos")
