"""An example of a package that extends BiGR-Lightning without changing it."""

# Checkpoints name the schedule, and are read only after its class has been imported.
from my_lab import noise as noise
