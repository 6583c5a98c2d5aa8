"""Counts turned into what a lab acts on: shares, live index, response, onset, dose; each with its uncertainty. Pure.

Every function takes arrays of one plate (`values.PlateCounts`) and gives arrays back; nothing here reads a clock, a
file or the ledger. Methods: DESIGN.md, "What a count means"; the reasons stand in each file.
"""
