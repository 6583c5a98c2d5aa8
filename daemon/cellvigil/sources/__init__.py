"""What each microscope writes: names, metadata and pixels. One small module a microscope, one Protocol over them.

Nothing here lists folders, waits, or keeps state: `watch` finds files, `assemble` completes frames, `read` decodes.
"""
