"""What others have published for the measures of the scorecard, and where."""

PEERS: dict[str, str] = {}
