# Training, on one machine with or without NVIDIA GPUs.
#
#   docker build -t facerec .
#   docker run --rm -v "$PWD:/work" facerec data demo data/orl
#   docker run --rm --gpus all --shm-size 8g -v "$PWD:/work" facerec train --config demo
#
# Torch from the registry brings CUDA's libraries; the host gives the driver (NVIDIA Container Toolkit). Workers hand
# batches over in shared memory, of which Docker gives 64 MB unless --shm-size says more. The folder at /work belongs to
# user 1000, or the container runs with --user. Nothing secret is in the image: MLFLOW_TRACKING_URI and its like come
# with `docker run --env-file`.
ARG PYTHON=3.11

FROM python:${PYTHON}-slim-bookworm AS build
RUN pip install --no-cache-dir uv==0.13.9 && python -m venv /opt/facerec
WORKDIR /source
# The packages first: they change seldom, and most of the time goes into them.
COPY pyproject.toml README.md LICENSE ./
RUN uv pip install --no-cache --python /opt/facerec/bin/python -r pyproject.toml \
    --extra demo --extra postgres --extra s3 --extra tensorboard
COPY facerec facerec
COPY configs configs
COPY studies studies
RUN uv pip install --no-cache --no-deps --python /opt/facerec/bin/python .

FROM python:${PYTHON}-slim-bookworm
# gcc: Triton compiles the launchers of its kernels (head.loss: fused, training.compile). tini: signals reach the
# training, which then saves and ends with 143.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 facerec \
    && install -d -o facerec -g facerec /work
COPY --from=build /opt/facerec /opt/facerec
ENV PATH=/opt/facerec/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    GIT_PYTHON_REFRESH=quiet \
    MLFLOW_DISABLE_TELEMETRY=true
USER 1000
WORKDIR /work
ENTRYPOINT ["tini", "--", "facerec"]
CMD ["--help"]
