"""Tests of what Kubernetes adds to a node's network."""
