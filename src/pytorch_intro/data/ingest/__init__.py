"""Any dataset to decoded uint8 images of one shape."""
