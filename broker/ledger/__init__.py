"""The ledger: a decision on record together with what follows from it, in one transaction."""
