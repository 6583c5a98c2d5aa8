"""The record on disk: OME-Zarr 0.5 and a journal whose fsynced line is the commit."""
