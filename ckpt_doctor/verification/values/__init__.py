"""Values of a checkpoint against those of a live model, and the marks that prove a load."""
