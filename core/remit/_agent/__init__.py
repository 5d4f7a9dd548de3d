"""remit's agent: what runs on the target. Sent there, started there, gone when the session is.

Standard library only, Python 3.6 to 3.14. It never touches the target's disk to run: the modules
here are imported from memory, by `remit._agent.base.importer`, under the names that they have here.
"""
