"""Well profiles: what a well looks like at a time point, as one vector, held against its controls (Cell-DINO)."""
