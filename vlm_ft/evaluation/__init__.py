"""Measure an adapter against its bare base, the majority class and simple classifiers, and report the results."""
