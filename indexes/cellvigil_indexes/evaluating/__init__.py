"""How good an index is: on other cells, on its own held out, on classes withheld; and how far its certainty holds."""
