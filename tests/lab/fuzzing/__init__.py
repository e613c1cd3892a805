"""What is fuzzed, for hypothesis in the quick tier and for atheris at length."""
