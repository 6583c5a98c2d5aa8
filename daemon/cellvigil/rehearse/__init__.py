"""A simulated microscope: frames as a real one writes them, and the truth beside them."""
