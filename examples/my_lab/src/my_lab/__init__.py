"""An example of a package that extends BiGR-Lightning without changing it."""
