"""The chart on a real Kubernetes control plane; `make test-cluster` builds it and runs these tests."""
