"""The complex core: plain ``torch.nn.Module``s that import torch and nothing else."""
