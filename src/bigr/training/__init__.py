"""Lightning: modules, data modules, callbacks and optimisers."""
