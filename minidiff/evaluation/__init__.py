"""How good samples are: distances to held-out data (`metrics`), reports on a run (`reports`) and figures (`plots`)."""
