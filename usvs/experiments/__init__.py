"""The paper's tables and figures, label-efficiency curves and controls."""
