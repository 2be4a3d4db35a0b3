"""What every stage uses: params, artifacts, plug-ins by name, randomness, class counts, the subset."""
