"""Figures about certainty: pure functions, arrays in, values out; a room a question."""
