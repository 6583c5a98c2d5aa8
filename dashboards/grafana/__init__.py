"""Grafana dashboards as code: `python -m dashboards.grafana.make` writes the JSON beside these files."""
