"""How good an adapter is: against its bare base, the majority, and an honest classifier; as a page to read."""
