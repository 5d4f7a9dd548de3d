"""Packages as bytes: what is in them, what is refused and how."""

from __future__ import annotations

import sys
import types
import zipfile
import zlib
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from remit import ShippingError
from remit._shipping import packages
from remit._shipping.packages import Package, package
from remit._wire import msgpack


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that modules are imported from."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def put(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def contents(one: Package) -> dict[str, bytes]:
    held: Any = msgpack.unpack(zlib.decompress(one.body))
    assert held["name"] == one.name
    files: dict[str, bytes] = held["files"]
    return files


class TestContents:
    def test_all_its_files_but_what_is_compiled_or_hidden(self, here: Path) -> None:
        put(
            here,
            {
                "apkg/__init__.py": "",
                "apkg/sub/mod.py": "x = 1",
                "apkg/data/a.txt": "text",
                "apkg/__pycache__/mod.cpython-311.pyc": "",
                "apkg/old.pyc": "",
                "apkg/.git/config": "",
                "other/__init__.py": "",
            },
        )
        assert contents(package("apkg")) == {
            "apkg/__init__.py": b"",
            "apkg/data/a.txt": b"text",
            "apkg/sub/mod.py": b"x = 1",
        }

    def test_given_by_name_it_is_not_imported(self, here: Path) -> None:
        put(here, {"raises_on_import.py": "raise RuntimeError"})
        before = set(sys.modules)
        assert contents(package("raises_on_import")) == {
            "raises_on_import.py": b"raise RuntimeError"
        }
        assert set(sys.modules) == before

    def test_given_as_a_module(self) -> None:
        assert package(cloudpickle) == package("cloudpickle")

    def test_a_namespace_package_in_several_places(
        self, here: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(
            here,
            {"one/spaced_out/a.py": "1", "two/spaced_out/b.py": "2", "two/spaced_out/a.py": ""},
        )
        monkeypatch.syspath_prepend(str(here / "two"))
        monkeypatch.syspath_prepend(str(here / "one"))
        assert contents(package("spaced_out")) == {
            "spaced_out/a.py": b"1",
            "spaced_out/b.py": b"2",
        }

    def test_links_are_followed_and_circles_are_not(self, here: Path) -> None:
        put(here, {"linked/__init__.py": "", "elsewhere/mod.py": "x"})
        (here / "linked" / "sub").symlink_to(here / "elsewhere")
        (here / "linked" / "circle").symlink_to(here / "linked")
        assert contents(package("linked")) == {"linked/__init__.py": b"", "linked/sub/mod.py": b"x"}

    def test_one_in_a_zip_file(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with zipfile.ZipFile(here / "lib.zip", "w") as archive:
            archive.writestr("inside/zipped/__init__.py", "x = 1")
            archive.writestr("inside/zipped/data.bin", b"\0")
            archive.writestr("inside/zipped/__pycache__/a.pyc", b"\0")
            archive.writestr("zipped/__init__.py", "another")
        monkeypatch.syspath_prepend(str(here / "lib.zip" / "inside"))
        assert contents(package("zipped")) == {
            "zipped/__init__.py": b"x = 1",
            "zipped/data.bin": b"\0",
        }

    def test_the_digest_tells_contents_apart(self, here: Path) -> None:
        put(here, {"changing.py": "1"})
        first = package("changing")
        assert package("changing") == first
        put(here, {"changing.py": "2"})
        assert package("changing").digest != first.digest


class TestRefused:
    @pytest.mark.parametrize(
        ("name", "words", "hint"),
        [
            ("no_such_package", "no module no_such_package can be found here", "would import"),
            ("json", "json is part of Python itself", "just import it"),
            ("sys", "sys is part of Python itself", "just import it"),
            ("zipimport", "zipimport is part of Python itself", "just import it"),
            ("__main__", "__main__ cannot be imported on the target", "into a module"),
            ("remit", "remit has a part of its own on the target", "import it in the function"),
            ("attr.exceptions", "attr.exceptions is part of attr", 'session.ship("attr") sends'),
            ("no/name", "'no/name' is not the name of a module", 'session.ship("mypkg")'),
            ("", "'' is not the name of a module", 'session.ship("mypkg")'),
        ],
    )
    def test_what_is_no_package_of_the_user(self, name: str, words: str, hint: str) -> None:
        with pytest.raises(ShippingError, match=words) as caught:
            package(name)
        assert hint in caught.value.hint

    def test_a_module_made_by_hand(self, monkeypatch: pytest.MonkeyPatch) -> None:
        made = types.ModuleType("made_by_hand")
        monkeypatch.setitem(sys.modules, "made_by_hand", made)
        for one in ("made_by_hand", made):
            with pytest.raises(ShippingError, match="no module made_by_hand can be found"):
                package(one)

    @pytest.mark.parametrize(
        "file", ["fast.cpython-311-x86_64-linux-gnu.so", "sub/lib.so", "w.pyd"]
    )
    def test_compiled_code(self, here: Path, file: str) -> None:
        put(here, {"withext/__init__.py": "", f"withext/{file}": ""})
        with pytest.raises(ShippingError, match="is not pure Python") as caught:
            package("withext")
        assert caught.value.message == (
            f"withext is not pure Python: withext/{file} is compiled for this computer"
        )
        assert "pip install withext on the target" in caught.value.hint

    def test_a_single_compiled_module(self, here: Path) -> None:
        put(here, {"onlyext.so": ""})
        with pytest.raises(ShippingError, match=r"onlyext is not pure Python: onlyext.so is"):
            package("onlyext")

    def test_one_without_source(self, here: Path) -> None:
        put(here, {"sourceless.pyc": ""})
        with pytest.raises(ShippingError, match=r"sourceless has no source: it comes from /.*pyc"):
            package("sourceless")

    def test_one_that_is_too_large(self, here: Path) -> None:
        put(here, {"large/__init__.py": "", "large/small.bin": "x"})
        with (here / "large" / "big.bin").open("wb") as file:
            file.truncate(packages.LIMIT + 10)
        with pytest.raises(ShippingError, match="large is larger than the 32 MiB") as caught:
            package("large")
        assert "large/big.bin" in caught.value.evidence
        assert "copy its data to the target" in caught.value.hint

    def test_a_file_whose_name_cannot_be_sent(self, here: Path) -> None:
        put(here, {"oddly/__init__.py": ""})
        Path(f"{here}/oddly/\udcff.txt").write_text("")
        with pytest.raises(ShippingError, match="oddly has a file whose name is not UTF-8"):
            package("oddly")
