"""How good is it? Protocols, the scenes they run on, and reports."""
