"""A reference index carried to another microscope: which classes are there, maps, voters. Pure: arrays in, arrays out.

"Optimal Transport Feature Alignment for Cross-Domain Cell Image Classification" (the transfer paper), sections 3.2 to
3.4 and appendix A. Where its letter does not hold, the file that departs from it says so and why.
"""
