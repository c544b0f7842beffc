"""Metrics and traces: what a server does, for Prometheus and for OpenTelemetry.

`names` has every metric, `counts` what is counted while the daemon runs, `containers` what the kernel counts of each
container, `exposition` all of it as text, `traces` an operation as spans.  With them comes what reads them:
`dashboard.json` for Grafana and `rules.yaml` for Prometheus.

May import `core`, `api`, `net` and `forges.api`.  Must not know where its values come from: neither Docker nor the
history nor the settings.
"""
