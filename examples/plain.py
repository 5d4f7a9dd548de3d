"""How full the disks of some computers are: ``python plain.py web1 web2``.

A plain script: no event loop, no ``await``.
"""

import sys

import remit.blocking


def main(targets: list[str]) -> None:
    with remit.blocking.open_hub() as hub:
        for target in targets:
            session = hub.connect(target)
            done = session.run(["df", "--output=pcent", "/"], check=True)
            print(f"{session.location}: {done.text.split()[-1]}")


if __name__ == "__main__":
    main(sys.argv[1:] or ["local:"])
