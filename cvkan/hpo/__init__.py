"""Search for hyperparameters: an Optuna study whose trials are jobs of a multirun."""
