"""Images on their way into a network: on the device, streamed, augmented."""
