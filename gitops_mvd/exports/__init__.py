"""An app → documents for Kubernetes: `mvd export kubernetes`.  Pure.

    for app in read(tree, wanted="chatbot", host=""):
        print(text_of(documents(app, choices)))

source     the repository → the apps as they are exported      app         all documents of an app, and what they need
workload   Deployment, StatefulSet, Job, CronJob               pod         what containers share; placement beside it
container  one container; resources, probes, environment       storage     claims, files of the repository, mounts
service    how others find it                                  routes      HTTPRoute, GRPCRoute
plugins    KongPlugin, KongUpstreamPolicy, annotations         gateway     what `kong/*.yaml` has
schedule   a time of systemd → one of cron                     remarks     comments, beside what they are about
names      what Kubernetes takes for a name                    text        YAML with these comments
report     what was not carried over, and what to do first

A document is the plain mapping that Kubernetes takes, with remarks among its keys: whatever has no counterpart is said
at the place where it would stand.  No value of a secret gets into a document, only the name of a Secret.
May import `manifest`, `config` and `core`.  Must not know Docker, systemd, Kong's Admin API, a server or its settings.
"""
