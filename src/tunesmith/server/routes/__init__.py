"""The routes by what they are about. A new file stands in `ROUTES` of `server/app.py`, each route with its scope."""
