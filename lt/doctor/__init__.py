"""What killed commands leave in DVC, in git and in the outputs: how it is found, told and mended. No torch."""
