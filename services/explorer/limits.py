"""How much one request may ask for: the same by REST, gRPC and page."""

from __future__ import annotations

#: Rows of a page of a list, and of each kind that a search finds.
MOST_ROWS, MOST_FOUND = 200, 50
#: Products of a basket.
MOST_ITEMS = 50
#: Characters of a search, and of a product's id.
MOST_CHARACTERS, ID_CHARACTERS = 200, 512
#: Characters of a pair's id: both products', each of their characters escaped at the worst.
PAIR_ID_CHARACTERS = 6 * ID_CHARACTERS + 1
