"""The Hydra config tree, shipped as the package ``cvkan.conf``."""
