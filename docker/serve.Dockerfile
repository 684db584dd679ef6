# Serving: loads a registered model when it starts, and answers as docs/serving.md says.
#
#   docker build -t facerec-serve -f docker/serve.Dockerfile .
#   docker run --rm -p 127.0.0.1:8080:8080 -e MODEL_URI=models:/faces@champion \
#       -e MLFLOW_TRACKING_URI=http://mlflow.example:5000 facerec-serve
#   docker run --rm -p 127.0.0.1:8080:8080 -v "$PWD/model:/model:ro" -e MODEL_URI=/model facerec-serve
#
# A folder is what `mlflow artifacts download -u models:/faces@champion -d model` writes. WORKERS are processes; each
# takes its share of the cores that the container may use (--cpus), or OMP_NUM_THREADS. The server has neither TLS nor
# users: publish the port on 127.0.0.1 alone, and put a proxy such as docs/nginx.conf in front.
ARG PYTHON=3.11

FROM python:${PYTHON}-slim-bookworm AS build
RUN pip install --no-cache-dir uv==0.13.9 && python -m venv /opt/facerec
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
RUN uv pip install --no-cache --python /opt/facerec/bin/python -r pyproject.toml --extra index --extra onnx --extra s3
COPY facerec facerec
COPY configs configs
COPY studies studies
RUN uv pip install --no-cache --no-deps --python /opt/facerec/bin/python .

FROM python:${PYTHON}-slim-bookworm
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 facerec
COPY --from=build /opt/facerec /opt/facerec
ENV PATH=/opt/facerec/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    GIT_PYTHON_REFRESH=quiet \
    MLFLOW_DISABLE_TELEMETRY=true \
    WORKERS=1 \
    PORT=8080
USER 1000
WORKDIR /home/facerec
EXPOSE 8080
# A model is fetched and loaded before the first answer, which may take minutes.
HEALTHCHECK --interval=15s --timeout=5s --start-period=300s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/ping', timeout=4)"]
ENTRYPOINT ["tini", "-g", "--"]
CMD ["sh", "-c", "exec mlflow models serve -m \"${MODEL_URI:?give -e MODEL_URI=models:/NAME@ALIAS or a folder}\" --env-manager local -h 0.0.0.0 -p \"$PORT\" -w \"$WORKERS\""]
