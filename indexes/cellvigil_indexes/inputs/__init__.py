"""Labelled cells from wherever they are: pictures, annotated frames, homogeneous frames, a store. Ends in `collecting`.

`folders`, `coco`, `stored` read what labels there are; `pictures` and `scene` make what an encoder sees, through the
functions that live frames pass; `choosing`, `likeness` and `leaks` say which cells to take; `cache` remembers vectors.
"""
