# The server as an image, for a CPU or for an NVIDIA GPU, and the developers' container. docs/install.md says how to run them.
#
#   docker build -t assay:cpu .                          the default target
#   docker build -t assay:cuda --target cuda .           CUDA 13, driver R580 or newer; --build-arg GPU_LOCK=gpu-cu12 for R525
#
# Pinned: the base images by digest, packages by hash. The compiler comes with the larger of two images of one Python release, so that
# nothing is installed from an archive that moves. CUDA and cuDNN are wheels of the GPU lock and the driver is the host's: an NVIDIA base
# image would bring its libraries a second time.

FROM python:3.13.15-trixie@sha256:82c46c08c991d3d3ff10476ac5e386c2c28f27bbd3985a02c5e39fe99ab272eb AS toolchain
# The time that archives carry, so that the same sources give the same wheel: 1980, the earliest that a ZIP file knows.
# The image has the native transport, or is not built: libnghttp2, which comes with this image, goes into the wheel.
ENV SOURCE_DATE_EPOCH=315532800 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 ASSAY_NATIVE=require

FROM toolchain AS cpu-build
RUN python -m venv --without-pip /opt/assay
COPY server/assay/lock/cpu.txt /lock/
RUN pip --python /opt/assay install --no-deps --require-hashes -r /lock/cpu.txt
COPY . /src
RUN pip --python /opt/assay wheel --no-deps --no-build-isolation --wheel-dir /dist /src \
 && pip --python /opt/assay install --no-deps --no-index /dist/*.whl \
 && pip --python /opt/assay uninstall --yes cython setuptools

FROM toolchain AS cuda-build
RUN python -m venv --without-pip /opt/assay
ARG GPU_LOCK=gpu
COPY server/assay/lock/${GPU_LOCK}.txt /lock/gpu.txt
RUN pip --python /opt/assay install --no-deps --require-hashes -r /lock/gpu.txt
COPY --from=cpu-build /dist /dist
RUN pip --python /opt/assay install --no-deps --no-index /dist/*.whl \
 && pip --python /opt/assay uninstall --yes cython setuptools

# What .devcontainer opens: the compiler, make and git; the rest comes from `make dev`.
FROM toolchain AS dev
RUN useradd --create-home --uid 1000 --shell /bin/bash dev
USER 1000:1000

# All but the packages. It writes to /tmp only: run it with --read-only --tmpfs /tmp.
FROM python:3.13.15-slim-trixie@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b AS server
LABEL org.opencontainers.image.title="assay" \
      org.opencontainers.image.description="Scores bank transactions for fraud in real time over gRPC" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/assay/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ASSAY_LISTEN=0.0.0.0:50051 \
    ASSAY_METRICS_LISTEN=0.0.0.0:9464 \
    ASSAY_LOG_FORMAT=json \
    ASSAY_CACHE_DIR=/tmp/assay \
    XDG_STATE_HOME=/tmp/state
WORKDIR /tmp
USER 65532:65532
EXPOSE 50051 9464
STOPSIGNAL SIGTERM
# The demo's history is simulated at the first start: half a minute on a slow machine.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["assay", "doctor", "--server", "127.0.0.1:50051"]
ENTRYPOINT ["assay"]
CMD ["serve"]

FROM server AS cuda
COPY --from=cuda-build /opt/assay /opt/assay
# What the NVIDIA container toolkit shows a container: the cards, and of the driver what computing needs.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

FROM server AS cpu
COPY --from=cpu-build /opt/assay /opt/assay
