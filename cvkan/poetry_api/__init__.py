"""The object that :func:`cvkan.poetry_autoencoder` returns, and what it is made of."""
