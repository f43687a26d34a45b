"""Readers of the data sets, one module each, and the ranges of frames that split them."""
