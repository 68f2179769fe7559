# The server on a CPU. Two stages: the compiler stays in the first. Reproducible: base image by tag, packages by lock file.
#
#   docker build -t assay .
#   docker run --read-only --tmpfs /tmp -p 50051:50051 assay                          # the demo
#   docker run --read-only --tmpfs /tmp -p 50051:50051 -v ./models:/models:ro \
#     -e ASSAY_MODELS='["/models/card_fraud/1"]' assay                                 # your own model
FROM python:3.13-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/assay
ENV PATH=/opt/assay/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY server/assay/lock/cpu.txt /tmp/lock.txt
RUN pip install --no-deps --require-hashes -r /tmp/lock.txt
COPY . /src
RUN pip install --no-deps --no-build-isolation /src && pip uninstall -y setuptools cython

FROM python:3.13-slim
LABEL org.opencontainers.image.title="assay" \
      org.opencontainers.image.description="Scores bank transactions for fraud in real time over gRPC"
COPY --from=build /opt/assay /opt/assay
ENV PATH=/opt/assay/bin:$PATH PYTHONUNBUFFERED=1 ASSAY_LISTEN=0.0.0.0:50051 ASSAY_CACHE_DIR=/tmp/assay
USER 65532:65532
WORKDIR /tmp
EXPOSE 50051
STOPSIGNAL SIGTERM
ENTRYPOINT ["assay"]
CMD ["serve"]
