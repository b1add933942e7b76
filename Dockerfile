# The gate without the demo: one binary, no shell, not root.
#   docker build -t gatelog .
#   docker run --rm -v ./etc:/etc/gatelog:ro gatelog check --config /etc/gatelog/gatelog.yaml
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --no-default-features \
    && install -D target/release/gatelog /out/usr/local/bin/gatelog \
    && install -d -m 0700 /out/var/lib/gatelog

FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="gatelog" \
      org.opencontainers.image.description="The gate that keeps a log, in front of the Kubernetes API" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build --chown=65532:65532 /out/ /
USER 65532:65532
# 6443 is the gate, 9090 its metrics and probes.
EXPOSE 6443 9090
ENTRYPOINT ["/usr/local/bin/gatelog"]
CMD ["serve", "--config", "/etc/gatelog/gatelog.yaml"]
