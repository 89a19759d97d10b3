# syntax=docker/dockerfile:1
# An image with cgbench and all that it needs. By default for processors:
#   docker build -t cgbench .
# and for graphics processors of NVIDIA, whose driver and container toolkit the host brings:
#   docker build -t cgbench:gpu --build-arg DEVICE=gpu .
# tests/test_image.py compares names and versions with pyproject.toml and conda/environment.yaml.

ARG PYTHON_VERSION=3.11

# The wheel is made from the source distribution, so that both are known to be whole.
FROM python:${PYTHON_VERSION}-slim-bookworm AS wheel
RUN pip install --no-cache-dir "build>=1.2"
WORKDIR /source
COPY . .
RUN python -m build --outdir /dist

FROM mambaorg/micromamba:2-debian12-slim AS environment
ARG PYTHON_VERSION
# cpu or gpu: which build of torch.
ARG DEVICE=cpu
# The CUDA version that the image is made for; the machine that builds it needs no driver.
ARG CUDA_VERSION=12.6
USER root
COPY conda/environment.yaml /tmp/environment.yaml
RUN case "${DEVICE}" in cpu|gpu) ;; *) echo "DEVICE is cpu or gpu, not '${DEVICE}'"; exit 2 ;; esac
RUN if [ "${DEVICE}" = gpu ]; then export CONDA_OVERRIDE_CUDA="${CUDA_VERSION}"; extra=triton; fi \
    && micromamba create --yes --prefix /opt/cgbench --file /tmp/environment.yaml \
        "python=${PYTHON_VERSION}" "pytorch-${DEVICE}" pip ${extra:-} \
    && micromamba clean --all --yes
COPY --from=wheel /dist/*.whl /tmp/dist/
RUN /opt/cgbench/bin/pip install --no-cache-dir --no-deps /tmp/dist/*.whl \
    && /opt/cgbench/bin/pip check

FROM debian:bookworm-slim AS run
LABEL org.opencontainers.image.title="cgbench" \
      org.opencontainers.image.licenses="MIT"
# Training with 'engine: compiled' and Triton call a compiler.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 cgbench \
    && install -d -o cgbench -g cgbench /data /work
COPY --from=environment /opt/cgbench /opt/cgbench
# Compiled loops are kept in the data folder: mounted, they are compiled once and not in every run.
ENV PATH=/opt/cgbench/bin:${PATH} \
    CGBENCH_HOME=/data \
    NUMBA_CACHE_DIR=/data/.cache/numba \
    TORCHINDUCTOR_CACHE_DIR=/data/.cache/torch \
    TRITON_CACHE_DIR=/data/.cache/triton \
    MPLCONFIGDIR=/tmp/matplotlib \
    PYTHONUNBUFFERED=1
USER cgbench
VOLUME /data
WORKDIR /work
ENTRYPOINT ["cgbench"]
CMD ["--help"]
