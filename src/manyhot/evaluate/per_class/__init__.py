"""Results of each class: average precision, operating points, curves and confusions."""
