"""What both ends of a link must agree on: frames, the conversation, states, records.

Bytes or words in, values out. The agent carries it; Python 3.6.
"""
