"""Numbers from test logits. numpy only."""
