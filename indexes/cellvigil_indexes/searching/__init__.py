"""What a large index needs to be searched fast: a graph, and vectors of half the size that call the same."""
