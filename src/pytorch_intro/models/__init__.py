"""Networks: plain nn.Modules built from an image shape (C, H, W), a number of classes and settings."""
