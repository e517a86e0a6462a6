"""What is in the KB put to the filter once more: `stored` reads, `sending` sends, `command` is what a person calls."""
