"""Disposable servers on one machine, to try gitops-mvd and to test it: `lab.Lab.open`."""
