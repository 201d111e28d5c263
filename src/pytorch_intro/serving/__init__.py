"""A finished run as a web page and a REST API: uploads, batches, pages, metrics, server."""
