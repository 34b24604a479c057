"""What is watched: alerts, their sections for people on call, and the dashboard, by a real Prometheus."""
