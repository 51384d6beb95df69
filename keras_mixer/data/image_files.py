"""Which image files are read."""

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".gif")
# 67 million pixels, 200 MB decoded: beyond any photograph, below what a forged header could ask for. Exported graphs
# and `keras-mixer predict` answer the same images.
MAX_PIXELS = 2**26
