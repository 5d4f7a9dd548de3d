"""What runs in the interpreter that runs functions: an ordinary one of the target, with its
site-packages. It came from the caller, as the agent did. Standard library only, Python 3.6."""
