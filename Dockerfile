# The sidecar (target `tenure`), and with the counter app to watch it by (target `demo`):
#   docker build --target tenure -t tenure:local .
# One file for every architecture that the two images below exist for. The older builder
# reads it as well as BuildKit does.
ARG RUST_IMAGE=rust:1-bookworm
# A C library and certificates; no shell, no package manager.
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot

FROM ${RUST_IMAGE} AS build
WORKDIR /tenure
# etcd's protocol is compiled from its own description.
RUN command -v protoc >/dev/null || \
    { apt-get update && apt-get install -y --no-install-recommends protobuf-compiler; }
# The dependencies alone, so that they are compiled again only where they change. The
# targets that the manifest names are left out: their files are not here yet.
COPY Cargo.toml Cargo.lock ./
RUN sed -i '/^\[\[/,/^$/d' Cargo.toml && \
    mkdir src examples && : > src/lib.rs && \
    echo 'fn main() {}' | tee src/main.rs > examples/counter.rs && \
    cargo build --release --locked --bin tenure --example counter
COPY . .
# The newer files are told by their times, which came from outside.
RUN touch src/lib.rs src/main.rs examples/counter.rs && \
    cargo build --release --locked --bin tenure --example counter && \
    mkdir -p /image/usr/local/bin /image/var/lib/tenure && \
    mv target/release/tenure /image/usr/local/bin/

FROM ${RUNTIME_IMAGE} AS tenure
# Also an empty /var/lib/tenure that the user may write: for --state-dir and a volume.
COPY --from=build --chown=65532:65532 /image/ /
COPY LICENSE-MIT LICENSE-APACHE /licenses/
USER 65532:65532
ENTRYPOINT ["tenure"]
CMD ["run"]
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=5s CMD ["tenure", "healthcheck"]
ARG VERSION=unreleased
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Tenure" \
      org.opencontainers.image.description="Leader election beside any app, with fencing tokens" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

FROM tenure AS demo
COPY --from=build /tenure/target/release/examples/counter /usr/local/bin/
CMD ["run", "--", "counter"]
