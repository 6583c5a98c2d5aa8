"""From the ledger to figures: dense sheets of a plate's counts, what response makes of them, and the metrics' series.

Reads the ledger, keeps arrays, calls `response`; knows no clock, no thread and no file.
"""
