"""Which classes of a reference a target has (the transfer paper's section 3.2 and appendix A); `find` is the entry."""
