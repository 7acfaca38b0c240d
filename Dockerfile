# One image for controller, worker and migration:
#
#   docker build -t echelon .                     (--network host where containers reach no package index)
#   docker run --rm echelon --help
#
# compose.yaml runs all of it.

ARG PYTHON=python:3.11-slim-bookworm

FROM $PYTHON AS builder
WORKDIR /src
RUN python3 -m venv --without-pip /opt/echelon
# What Echelon leans on, in a layer of its own: it stays as it is when only the code changes.
COPY setup.cfg pyproject.toml LICENSE ./
RUN touch README.md \
 && python3 -m pip --python /opt/echelon/bin/python3 install --no-cache-dir --disable-pip-version-check '.[postgresql]'
COPY echelon echelon
COPY controller controller
COPY shared shared
COPY worker worker
RUN python3 -m pip --python /opt/echelon/bin/python3 install --no-cache-dir --disable-pip-version-check \
      --no-deps --force-reinstall .

FROM $PYTHON
LABEL org.opencontainers.image.title="Echelon" \
      org.opencontainers.image.description="A simple distributed job engine" \
      org.opencontainers.image.licenses="MIT"
# One number for both sides of the shared volume, and the same on every host.
RUN groupadd --gid 10001 echelon \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/echelon --shell /usr/sbin/nologin echelon \
 && install -d -o echelon -g echelon -m 0750 /var/lib/echelon /var/lib/echelon/volume /var/lib/echelon/state
COPY --from=builder /opt/echelon /opt/echelon
COPY deploy/healthcheck /usr/local/bin/echelon-healthcheck
ENV PATH=/opt/echelon/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    ECHELON_VOLUME=/var/lib/echelon/volume \
    ECHELON_STATE_DIR=/var/lib/echelon/state
USER 10001:10001
WORKDIR /var/lib/echelon
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s --retries=3 CMD ["echelon-healthcheck"]
ENTRYPOINT ["echelon"]
CMD ["--help"]
