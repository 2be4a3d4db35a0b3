"""xERM students: a whole network, or a head where the backbone stays as it is."""
