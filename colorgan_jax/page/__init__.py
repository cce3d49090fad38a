"""The page that colorizes photos in the browser, as files and as a server."""
