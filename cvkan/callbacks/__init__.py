"""Lightning callbacks: checkpoints, resuming, signals, divergence, history, progress."""
