"""The server: OpenAI's API over the engine, and the web page. `schema.py` says what may be asked and by which rule,
`prompts.py` makes of it what the engine is asked, `runner.py` runs that, `replies.py` makes answers of what comes;
`app.py` has the routes, `limits.py` stands in front of them, `server.py` begins and ends it all."""
