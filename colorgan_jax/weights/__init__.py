"""Released parameters, and readers of the weights of others."""
