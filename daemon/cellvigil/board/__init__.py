"""The page at /: is it alive, what was the last frame, how are the wells, what is wrong now. No script, no build step.

Everything is handed in: the tally's figures, the machine's state, the last frame as pixels. No thread is known here.
"""
