"""What is measured of each network, and across networks."""
