"""Radio: frames of I/Q samples or constellation images, each with a modulation and a signal-to-noise ratio."""
