"""The caller's end of a link, from the bytes that bring an agent up to its end."""
