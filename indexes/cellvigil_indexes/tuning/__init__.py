"""Chooses an index's encoders and settings by trying them all on cells that are not among its references.

"EWC-FAISS", Frontiers in Oncology 2025, section 2.4.1: every subset of the encoders, the one with the highest macro
accuracy on validation cells wins. Ours: depths, threshold, metric, reweighting and scaling are tried with every subset,
each encoder's distances are taken once, and the choice is scored on cells that took no part in it.
"""
