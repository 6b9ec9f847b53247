"""The process, HTTP/1.1 and the application around the API."""
