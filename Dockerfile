# The sidecar (target `tenure`), and with the counter app to watch it by (target `demo`):
#   docker build --target tenure -t tenure:local .
# One file for every architecture that the two images below exist for. The older builder
# reads it as well as BuildKit does.
ARG RUST_IMAGE=rust:1-bookworm
# A C library and certificates; no shell, no package manager.
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot

FROM ${RUST_IMAGE} AS build
WORKDIR /tenure
# The dependencies alone, so that they are compiled again only where they change. The
# targets that the manifest names are left out: their files are not here yet.
COPY Cargo.toml Cargo.lock ./
RUN sed -i '/^\[\[/,/^$/d' Cargo.toml && \
    mkdir src && : > src/lib.rs && echo 'fn main() {}' > src/main.rs && \
    cargo build --release --locked
COPY . .
# What is new is told by its time, and these files may be older than the layer above.
RUN touch src/lib.rs src/main.rs && \
    cargo build --release --locked && mkdir /empty

FROM ${RUNTIME_IMAGE} AS tenure
COPY --from=build /tenure/target/release/tenure /usr/local/bin/
# For --state-dir and a volume: the one place that the user may write.
COPY --from=build --chown=65532:65532 /empty/ /var/lib/tenure/
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

# The counter is an app of its own: built as an example it would bring the crates of all
# the tests. What it shares with the project is the lock.
FROM build AS build-demo
RUN mkdir -p /counter/src && cp Cargo.lock /counter/ && \
    cp examples/counter.rs /counter/src/main.rs && \
    { printf '[package]\nname = "counter"\nedition = "2024"\n[dependencies]\n'; \
      sed -n '/^ureq = /p' Cargo.toml; } > /counter/Cargo.toml && \
    cargo build --release --manifest-path /counter/Cargo.toml

FROM tenure AS demo
COPY --from=build-demo /counter/target/release/counter /usr/local/bin/
CMD ["run", "--", "counter"]
