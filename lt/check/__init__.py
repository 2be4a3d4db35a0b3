"""What is wrong in params.yaml, told at once before anything is deleted or trained. No torch."""
