"""Images: data sources and augmentation."""
