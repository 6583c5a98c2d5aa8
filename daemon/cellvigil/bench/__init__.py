"""`cellvigil bench`: how fast this device runs the encoders that are here, and what share of its peak that is.

Each bundle is opened and timed in a process of its own, the device's peak beside it; then a table is made, or JSON.
"""
