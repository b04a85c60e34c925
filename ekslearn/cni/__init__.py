"""What the Amazon VPC CNI does to a node, an ENI and a pod: settings, and lines for the tools.

Facts: the release v1.23.1 of aws/amazon-vpc-cni-k8s; each function names the Go function it plays.
Read in this order: settings, names, rules, chains, node, pod. The pool of addresses has a room of
its own, ekslearn/ipamd.
"""
