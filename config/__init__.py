"""Documents and the models that read them."""
