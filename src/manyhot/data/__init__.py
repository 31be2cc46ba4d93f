"""Published data: the catalogue, downloads, benchmarks and conversion between formats."""
