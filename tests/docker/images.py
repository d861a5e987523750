"""The images of the test: Tenure's, built by its Dockerfile, and the stores'.

Where no registry is in reach, the images that the Dockerfile and the compose files name
are stood in for by Debian packages: the same files, under private tags."""

import contextlib
import os
import re
import ssl
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from engine import ROOT, docker, need, run

# Seconds; two cores need some 700, and a machine may be half as fast.
BUILD_TIME = 1800


@contextlib.contextmanager
def images(run_id, say):
    """Everything is built for this run and removed after it. An image that the
    environment names is taken as it is: TENURE_IMAGE=tenure:local make test-docker."""
    given = {name: os.environ[name] for name in VARIABLES if os.environ.get(name)}
    private = f"tenure-test/{{}}:{run_id}".format
    with contextlib.ExitStack() as stack:
        made = []
        stack.callback(remove, made)
        stand_ins = len(given) < len(VARIABLES) and not registry_in_reach()
        variables, arguments = {}, [f"VERSION={version()}"]
        if stand_ins:
            say("no image registry in reach: stand-ins from Debian packages")
            need("mmdebstrap")
            pool = stack.enter_context(ThreadPoolExecutor())
            packages = ["redis-server", "etcd-server"]
            stores = pool.submit(stand_in, made, private("stores"), packages)
            variables |= dict.fromkeys(["REDIS_IMAGE", "ETCD_IMAGE"], private("stores"))
        if "TENURE_IMAGE" not in given:
            if stand_ins:
                stand_in(made, private("runtime"), ["libc6", "libgcc-s1", "ca-certificates"])
                stand_in(made, private("rust"), RUST_PACKAGES, with_toolchain())
                arguments.append(f"RUST_IMAGE={private('rust')}")
                arguments.append(f"RUNTIME_IMAGE={private('runtime')}")
            say("building the image")
            # The stages too are named, or they would be left behind.
            for target in ["build", "build-demo", "demo"]:
                build(target, private(target), arguments)
                made.append(private(target))
            variables["TENURE_IMAGE"] = private("demo")
        if stand_ins:
            stores.result()
        yield variables | given


VARIABLES = ["TENURE_IMAGE", "REDIS_IMAGE", "ETCD_IMAGE"]


def registry_in_reach():
    # The build's first step needs its base image from there anyway.
    try:
        docker("pull", "--quiet", "redis:7-alpine", seconds=120)
    except (RuntimeError, subprocess.TimeoutExpired):
        return False
    return True


def build(target, tag, arguments):
    words = ["--target", target, "--tag", tag]
    for argument in arguments:
        words += ["--build-arg", argument]
    # The host's way to the registries of packages, whatever that is.
    docker("build", "--force-rm", "--network", "host", *words, ROOT, seconds=BUILD_TIME)


def version():
    manifest = (ROOT / "Cargo.toml").read_text()
    return re.search(r'^version = "(.*)"', manifest, re.MULTILINE).group(1)


# What `rust:1-bookworm` has that the build uses.
RUST_PACKAGES = ["gcc", "libc6-dev", "coreutils", "dash", "sed"]


def with_toolchain():
    """The host's own compiler, for the image that is built into the root $1."""
    sysroot = run("rustc", "--print", "sysroot", cwd=ROOT)
    compiler = run("rustc", "--version", "--verbose", cwd=ROOT)
    host = re.search(r"^host: (.*)", compiler, re.MULTILINE).group(1)
    return (
        'ln -s gcc "$1/usr/bin/cc"; mkdir -p "$1/usr/local/lib/rustlib"; '
        f'cp -r {sysroot}/bin "$1/usr/local/"; cp {sysroot}/lib/*.so* "$1/usr/local/lib/"; '
        f'cp -r {sysroot}/lib/rustlib/{host} "$1/usr/local/lib/rustlib/"'
    )


def stand_in(made, tag, packages, hook="true"):
    """Unpacked packages with nothing set up, as distroless images are made."""
    certificates = ssl.get_default_verify_paths()
    trusted = certificates.cafile or certificates.openssl_cafile
    with tempfile.TemporaryDirectory(prefix="tenure-image-") as folder:
        tar = Path(folder) / "image.tar"
        run(
            "mmdebstrap", "--quiet", "--variant=extract", f"--include={','.join(packages)}",
            # What this host trusts, so that packages can be had the way it gets them.
            f'--extract-hook=mkdir -p "$1/etc/ssl/certs"; '
            f'cp -L {trusted} "$1/etc/ssl/certs/ca-certificates.crt"',
            f"--extract-hook={hook}", "bookworm", tar, seconds=300,
        )
        docker("import", tar, tag, seconds=120)
        made.append(tag)


def remove(made):
    for tag in reversed(made):
        subprocess.run(["docker", "rmi", "--force", tag], stdout=subprocess.DEVNULL, check=False)
