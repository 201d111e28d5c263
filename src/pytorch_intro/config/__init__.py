"""From YAML to objects: paths, validation, instantiation, resolvers."""
