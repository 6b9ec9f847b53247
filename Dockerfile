# Tessera's service. Two targets: `cpu` (the default) and `gpu`, which adds CUDA's libraries, as
# they come with onnxruntime-gpu, and falls back to the CPU where there is no GPU.
#
#   docker build --target gpu -t tessera:gpu .
#
# Packages come first and change seldom, then the code, then the models.

ARG BASE=python:3.12-slim-bookworm

# ------------------------------------------------------------------ what both have in common
FROM ${BASE} AS service
# The base comes without compiled standard library, and a read-only one would stay so: every
# start and every health check would compile what it imports.
RUN python -m compileall -q -x '/(site-packages|ensurepip|idlelib|lib2to3|pydoc_data|test|tkinter|turtledemo)/' \
    "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
RUN groupadd --gid 10001 tessera \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin tessera
WORKDIR /srv/tessera
# ONNX Runtime 1.29+ uploads usage data to its maker unless told not to.
ENV PATH=/opt/venv/bin:$PATH \
    ORT_DISABLE_TELEMETRY=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TESSERA_HOST=0.0.0.0 \
    TESSERA_MODELS_DIR=/models
EXPOSE 8000
STOPSIGNAL SIGTERM
# Not urllib: it would go through a proxy that is configured.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-Sc", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('TESSERA_PORT') or 8000), timeout=4); c.request('GET', '/readyz'); sys.exit(c.getresponse().status != 200)"]
USER 10001:10001
ENTRYPOINT ["python", "-m", "app"]
CMD ["serve"]

# ------------------------------------------------------------------ the pinned packages
FROM ${BASE} AS packages
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_CACHE_DIR=/var/cache/pip
RUN python -m venv --without-pip /opt/venv

FROM packages AS packages-cpu
COPY requirements/cpu.txt /requirements.txt
RUN --mount=type=cache,target=/var/cache/pip \
    python -m pip --python /opt/venv/bin/python install \
    --require-hashes --only-binary=:all: -r /requirements.txt

FROM packages AS packages-gpu
COPY requirements/gpu.txt /requirements.txt
RUN --mount=type=cache,target=/var/cache/pip \
    python -m pip --python /opt/venv/bin/python install \
    --require-hashes --only-binary=:all: -r /requirements.txt

# ------------------------------------------------------------------ our code, compiled beforehand
FROM ${BASE} AS code
WORKDIR /srv/tessera
COPY bundle bundle
COPY app app
COPY imaging imaging
COPY tessera tessera
COPY tessera_client tessera_client
RUN python -m compileall -q --invalidation-mode unchecked-hash \
    app bundle imaging tessera tessera_client

# ------------------------------------------------------------------ the images
FROM service AS gpu
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=packages-gpu /opt/venv /opt/venv
COPY --from=code /srv/tessera /srv/tessera
COPY models /models
ARG VERSION=0.1.0
ARG REVISION
LABEL org.opencontainers.image.title="Tessera (GPU)" \
      org.opencontainers.image.description="Images to grids of small integers and back" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

FROM service AS cpu
COPY --from=packages-cpu /opt/venv /opt/venv
COPY --from=code /srv/tessera /srv/tessera
COPY models /models
ARG VERSION=0.1.0
ARG REVISION
LABEL org.opencontainers.image.title="Tessera" \
      org.opencontainers.image.description="Images to grids of small integers and back" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
