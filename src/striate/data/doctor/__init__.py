"""The doctor: what is wrong with a data set, and a copy in which it is mended."""
