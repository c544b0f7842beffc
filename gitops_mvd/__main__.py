"""`python -m gitops_mvd` is `mvd`."""

from gitops_mvd.cli.main import main

main()
