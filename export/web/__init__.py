"""The web page: its scripts, and the Python that writes a site of them and serves it."""
