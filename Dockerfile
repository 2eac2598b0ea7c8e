# The server with API keys, on the CPU. For a GPU, begin with an image that brings CUDA and leave the rest as it is.
FROM python:3.11-slim

ENV PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY src ./src
RUN pip install -c constraints.txt torch==2.13.0 \
    && pip install -c constraints.txt ".[serve]" \
    && useradd --create-home --uid 10001 da3 \
    && install -d -o da3 /data

USER da3
WORKDIR /data
VOLUME /data
EXPOSE 8008
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8008/readyz', timeout=3)"]
ENTRYPOINT ["da3", "backend"]
CMD ["--host", "0.0.0.0", "--no-root", "--data-dir", "/data/backend", "--keys", "/data/keys.json"]
