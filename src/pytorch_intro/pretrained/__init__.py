"""Networks of timm and torchvision by name, with pretrained weights."""
