"""How good samples are: distances to held-out data (`metrics`), reports of a run, and pictures (`plots`)."""
