"""Labels and predictions → results, comparisons, ranks and their report."""
