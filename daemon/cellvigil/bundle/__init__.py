"""Bundles on disk, encoders' and reference indexes': what is in them, and that it is what it says."""
