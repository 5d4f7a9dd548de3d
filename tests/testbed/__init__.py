"""Real components to test remit against: sshd, dockerd, podman, a network link, old Pythons.

Everything here is synchronous, is started by the test run itself and ends with it. Tests get at
it through the fixtures in ``testbed.fixtures``; where a component cannot be had, ``testbed.needs``
says so.
"""
