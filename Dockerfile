# The smartrouter image: built in one stage, run in another that has the binary, its libraries, and no root.

FROM rust:1.95-slim-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential cmake libclang-dev libssl-dev pkg-config \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
# The dependencies first, around an empty program: this layer is built again only when they change.
COPY Cargo.toml Cargo.lock ./
COPY benches benches
RUN mkdir src && echo 'fn main() {}' > src/main.rs && touch src/lib.rs && cargo build --release --locked && rm -rf src
COPY schemas schemas
COPY topics topics
COPY deploy deploy
COPY src src
# Newer than the empty program, whatever the files' own times.
RUN touch src/main.rs src/lib.rs && cargo build --release --locked && strip target/release/smartrouter

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libssl3 libstdc++6 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/smartrouter --create-home smartrouter
COPY --from=build /build/target/release/smartrouter /usr/local/bin/smartrouter
COPY deploy /etc/smartrouter
USER 10001
WORKDIR /var/lib/smartrouter
# Inside a container the admin port is reached from outside it; state lies where a volume is mounted.
ENV SMARTROUTER__ADMIN__ADDR=0.0.0.0:9464 \
    SMARTROUTER__RUNTIME__STATE_DIR=/var/lib/smartrouter/state \
    SMARTROUTER__RUNTIME__MODELS_DIR=/var/lib/smartrouter/models
VOLUME /var/lib/smartrouter
EXPOSE 9464
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/9464 && printf 'GET /livez HTTP/1.0\\r\\n\\r\\n' >&3 && head -n1 <&3 | grep -q ' 200 '"]
ENTRYPOINT ["smartrouter"]
CMD ["run"]
