"""What AWS does: a VPC, its subnets, ENIs and their addresses, and the router nobody sees.

Everything here is AWS as documented; no kernel can confirm it. Where AWS doesn't publish how
something works, the docstring says that the model had to choose.
"""
