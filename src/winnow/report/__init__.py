"""The report: one self-contained HTML file made from tables, claims and figures."""
