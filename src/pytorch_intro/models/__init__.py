"""Networks: plain nn.Modules built from an image shape and a number of classes, and ignorant of everything else."""
