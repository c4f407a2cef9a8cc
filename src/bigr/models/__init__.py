"""The method in pure torch: binary autoencoder, masked transformer, binary transcoder, BiGR."""
