"""Class labels and seeds in, images out: shared by sampling, evaluation, training and the app."""
