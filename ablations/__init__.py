"""What each part of the pipeline is worth: left out, or turned, over the made-up shop, whose truth is known."""
