"""The generator, the discriminator, and the convolutions that both are made of."""
