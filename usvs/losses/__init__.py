"""Eq. 1, Eq. 2, the order task and their sum, Eq. 3: plain tensors in, losses and what to watch out."""
