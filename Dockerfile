# syntax=docker/dockerfile:1
ARG PYTHON=3.13-slim-bookworm

FROM python:${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY deploy/requirements.lock deploy/build.lock deploy/
RUN python -m venv /opt/tams \
    && /opt/tams/bin/pip install --require-hashes --only-binary :all: -r deploy/requirements.lock \
    && python -m venv /opt/build \
    && /opt/build/bin/pip install --require-hashes --only-binary :all: -r deploy/build.lock
COPY pyproject.toml README.md LICENSE ./
COPY policies policies
COPY store store
COPY proxy proxy
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
    && /opt/tams/bin/pip install --no-deps dist/*.whl \
    && /opt/tams/bin/pip uninstall --yes pip

FROM python:${PYTHON}
LABEL org.opencontainers.image.title="tams-proxy" \
    org.opencontainers.image.description="A Time-addressable Media Store (TAMS 8.2) with fine-grained authorization" \
    org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/tams/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    TAMS_HOST=0.0.0.0 \
    TAMS_DATA=/data \
    TAMS_METRICS__HOST=127.0.0.1 \
    TAMS_METRICS__PORT=9090
RUN groupadd --gid 10001 tams \
    && useradd --uid 10001 --gid tams --no-create-home --home-dir /data --shell /usr/sbin/nologin tams \
    && install --directory --owner=tams --group=tams --mode=0700 /data \
    && install --directory /etc/tams
COPY --from=build /opt/tams /opt/tams
# tams.toml and policies are looked for here; what is written goes to /data, and to /tmp.
WORKDIR /etc/tams
USER 10001:10001
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:9090/health', timeout=4)"]
# The store alone: --entrypoint tams-store.
ENTRYPOINT ["tams-proxy"]
CMD ["serve"]
