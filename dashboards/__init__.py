"""What a lab's Prometheus, Alertmanager and Grafana need, as code.

Not part of the wheel; the files that are made are committed.
"""
