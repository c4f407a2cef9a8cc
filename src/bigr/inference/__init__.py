"""Labels and seeds in, images out: what sampling, evaluation, training and the app share."""
