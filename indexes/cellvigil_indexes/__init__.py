"""Labelled cells become reference indexes: build, evaluate, show."""
