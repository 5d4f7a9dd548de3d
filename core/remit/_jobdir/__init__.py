"""The job directory: for the agent, supervisors and the command line. Python 3.6."""
