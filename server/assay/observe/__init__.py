"""What the server tells about itself: log lines, metrics, traces. Below all rooms and imports none of them.

telemetry.py puts the parts together for app.py. Nothing here runs per request: the core keeps histograms and records, and threads
of this room come for them.
"""
