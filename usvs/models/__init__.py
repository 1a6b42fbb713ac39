"""Networks: the backbone, its heads and the two streams; no data and no loss in here."""
