"""The tour's chapters; each is a script in cells, as editors open them."""
