"""Other image sizes, and the same function of permuted images."""
