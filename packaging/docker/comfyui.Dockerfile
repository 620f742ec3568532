# syntax=docker/dockerfile:1
# ComfyUI with the node pack, on a CPU: the worker, in a container of its own, has the GPU. Native nodes
# that compute, such as a native sampler, are slow in it.
#
# The build context is the root of this repository.
FROM python:3.12-slim-bookworm
ARG COMFYUI=v0.18.1

# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/*

# hadolint ignore=DL3013
RUN git clone --depth 1 --branch "${COMFYUI}" https://github.com/Comfy-Org/ComfyUI /opt/comfyui \
    && pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu \
        torch torchvision torchaudio \
    && pip install --no-cache-dir --requirement /opt/comfyui/requirements.txt \
    && useradd --system --uid 10002 --home-dir /data --shell /usr/sbin/nologin comfyui \
    && install --directory --owner 10002 --group 10002 \
        /data /data/custom_nodes /data/input /data/output /data/temp /data/user

COPY __init__.py pyproject.toml LICENSE /opt/comfyui/custom_nodes/ovis-worker/
COPY comfy_node /opt/comfyui/custom_nodes/ovis-worker/comfy_node
COPY locales /opt/comfyui/custom_nodes/ovis-worker/locales
COPY workflows /opt/comfyui/custom_nodes/ovis-worker/workflows
COPY subgraphs /opt/comfyui/custom_nodes/ovis-worker/subgraphs

ENV HOME=/data PYTHONDONTWRITEBYTECODE=1
USER 10002:10002
WORKDIR /opt/comfyui
VOLUME /data
EXPOSE 8188

HEALTHCHECK --start-period=2m --interval=30s --timeout=10s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8188/system_stats', timeout=8)"]

ENTRYPOINT ["python", "main.py", "--cpu", "--listen", "0.0.0.0", "--port", "8188", "--user-directory", "/data/user", "--input-directory", "/data/input", "--output-directory", "/data/output", "--temp-directory", "/data/temp", "--disable-auto-launch"]
