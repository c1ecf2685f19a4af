"""The performance suite: the product against its peers and limits, in one run on one machine, as ratios."""
