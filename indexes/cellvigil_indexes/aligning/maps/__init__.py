"""References carried to a target: affine maps, and transport. Each map a file; `catalogue` names them all."""
