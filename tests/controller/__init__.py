"""The controllers: annotations, plans, refusals."""
