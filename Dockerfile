# The server with API keys, on the CPU. For a GPU, let the second stage begin with an image that brings CUDA and Python.
# With the index of PyTorch's builds for the CPU as PIP_EXTRA_INDEX_URL the image is several gigabytes smaller.
# The tests read this file (tests/serve/test_dockerfile.py); they do not build it.
FROM python:3.11-slim AS wheel

WORKDIR /src
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY src ./src
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheel .

FROM python:3.11-slim

ARG PIP_EXTRA_INDEX_URL=""
ENV PYTHONUNBUFFERED=1
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    --mount=type=bind,source=constraints.txt,target=/constraints.txt \
    pip install --no-cache-dir -c /constraints.txt torch==2.13.0 \
    && pip install --no-cache-dir -c /constraints.txt "$(echo /wheel/*.whl)[serve]" \
    && useradd --create-home --uid 10001 da3 \
    && install -d -o da3 /data

USER 10001
WORKDIR /data
VOLUME /data
EXPOSE 8008
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8008/readyz', timeout=3)"]
ENTRYPOINT ["da3", "backend"]
CMD ["--model-dir", "bundled", "--host", "0.0.0.0", "--no-root", "--data-dir", "/data/backend", "--keys", "/data/keys.json"]
