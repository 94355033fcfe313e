"""A page on this machine: drop two pictures, watch, stop when it is good."""
