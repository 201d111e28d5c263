"""TensorBoard pages beyond scalars."""
