"""compose-go as an oracle: what it makes of a Compose file, beside what gitops-mvd makes of it.

client      the program of main.go, asked file by file     normal      both answers in one form
mutants     files to compare, made of those that there are  __main__    `make oracle`

Only `make oracle` needs Go.  What was answered to the cases of tests/unit/oracle is recorded beside them, and checked
by tests/unit/test_oracle.py without it.
"""
