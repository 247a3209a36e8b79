"""The container image, built for real. Run by `make test-image`."""
