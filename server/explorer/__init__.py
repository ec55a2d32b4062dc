"""The explorer: a page to see and walk latent spaces and to watch the server, made of static files without a build."""
