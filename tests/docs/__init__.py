"""What the pages say is so: every command and program in them is run, and compared.

The pages carry their own instructions, which readers do not see. Just before a block may stand

    <!-- test: file NAME -->         it is saved as NAME, for a later command to use
    <!-- test: same as FILE -->      it is the whole of FILE, which is tested elsewhere
    <!-- test: with FILE -->         its commands find FILE in their directory
    <!-- test: plugin NAME -->       the saved file NAME is a plugin to its commands
    <!-- test: prints -->            it is what the program before it prints
    <!-- test: terminal -->          the session is typed into a real terminal
    <!-- test: in the checkout -->   it is run in the top directory of the repository
    <!-- test: run by FILE -->       it is not run here: FILE runs it, word for word

A ```console block holds commands after ``$`` and what they print, a ```python block a program, or
statements that could stand in an async function. In expected text ``…`` stands for any text, a line
``…`` for any lines; a job id stands for whichever id the job gets, and for that one from then on.
``server01``, ``server02`` and ``build7`` are accounts on an sshd of the tests' own, ``docker:web``
and ``podman:web`` containers.
"""
