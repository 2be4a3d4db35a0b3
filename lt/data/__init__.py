"""Raw data: their index, and how images are listed, decoded, packed and opened."""
