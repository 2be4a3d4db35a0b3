"""Long-tailed image classification: losses, samplers, heads, re-training methods and the code that runs them."""
