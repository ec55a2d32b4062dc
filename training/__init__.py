"""PyTorch training of autoencoders, VAEs and denoisers, from a recipe to a checkpoint."""

import os

# Before PyTorch is loaded: OpenMP threads that wait for each other shall sleep, not spin. Spinning wins microseconds on
# an idle machine and loses a factor of four as soon as another process wants a core.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
