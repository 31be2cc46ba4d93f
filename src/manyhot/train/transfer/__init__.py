"""How well the features of a backbone serve other data: heads on features and on feature maps."""
