"""What each microscope writes: one small module a format; names, metadata and pixels, nothing else."""
